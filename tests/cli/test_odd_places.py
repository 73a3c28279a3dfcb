"""Unusual surroundings: a closed stream, a full disk, a folder that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def shell(place, script):
    return place.run(["sh", "-c", script], env={**place.environment, "PATH": f"{BIN}:{os.environ['PATH']}"})


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_one_that_nobody_reads(place, closed):
    done = shell(place, f"inv node.list {closed}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["node.list", "--list"])
def test_an_output_that_cannot_be_written_is_an_error(place, words):
    done = shell(place, f"inv {words} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the result: No space left on device\nhint: df -h /dev/full\n"


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_a_list_of_tasks_that_nobody_reads_any_more_is_no_error(place, program):
    reads, writes = os.pipe()
    os.close(reads)
    argv = [str(BIN / program), "--list"]
    with os.fdopen(writes) as gone:
        done = subprocess.run(argv, stdout=gone, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2], timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_that_knows_few_letters_gets_the_others_written_out(place):
    place.write("nodes: {web1: {host: web1.invalid, tags: [\u00fcber]}}\n")
    done = shell(place, "PYTHONIOENCODING=ascii inv node.list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\t\\xfcber\t" in done.stdout


def test_a_folder_that_is_gone_is_named(place, tmp_path):
    done = shell(place, f"mkdir {tmp_path}/x; cd {tmp_path}/x; rmdir {tmp_path}/x; codesmith node.list --file n.yaml")
    assert done.returncode == 1
    assert done.stderr == "error: the current folder cannot be used: No such file or directory\nhint: cd\n"


@pytest.mark.parametrize("words", ["node.list", "node.connect"])
def test_a_state_directory_that_cannot_be_made_is_named(place, words):
    done = shell(place, f"CODESMITH_HOME=/proc/none inv {words}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write /proc/none: No such file or directory\nhint: df -h /proc")


def test_a_registry_without_nodes_has_nothing_to_prepare(place):
    place.write("nodes:\n")
    for task in ("node.prepare", "node.connect --all", "node.version"):
        done = shell(place, f"inv {task}")
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"error: no nodes in {place.nodes}")


def test_another_registry_shows_the_state_of_its_nodes(place):
    other = place.nodes.with_name("other.yaml")
    other.write_text("nodes: {a: {host: a.invalid}, b: {host: b.invalid}}\n")
    done = place.inv("node.status", "--file", str(other))
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["a", "b"]
