"""Thirty nodes at once: each with its own result, one forwarder for all, and an end that says how far it came."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.person import BIN, TOP, Person

pytestmark = pytest.mark.long  # thirty nodes

NAMES = [f"n{number:02}" for number in range(1, 31)]
OFF, FOREIGN = NAMES[3], NAMES[7]


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """Somebody with thirty fresh nodes."""
    return make_person(dict.fromkeys(NAMES, "bookworm"))


def forwarders(ops: Person) -> list[int]:
    """Return the pids of this person's forwarders."""
    mine = f"CODESMITH_HOME={ops.home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (folder / "cmdline").read_bytes().split(b"\0"), (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"codesmith.tunnel" in words and mine in environment.split(b"\0"):
            found.append(int(folder.name))
    return found


def test_all_are_prepared_and_each_tells_its_steps(ops: Person) -> None:
    said = ops.runs("inv node.prepare --json")
    assert [(row["node"], row["result"]) for row in said.json] == [(name, "prepared") for name in NAMES]
    told = {line.split()[0] for line in said.err.splitlines()}
    assert told == set(NAMES)
    assert len({row["node_id"] for row in said.json}) == 30


def test_one_forwarder_has_all_endpoints(ops: Person) -> None:
    rows = ops.runs("inv node.connect --all --json").json
    assert [(row["name"], row["state"]) for row in rows] == [(name, "ready") for name in NAMES]
    assert len(forwarders(ops)) == 1
    assert len(list((ops.home / "run").glob("*.sock"))) == 31  # and its own
    answers = ops.runs("inv node.version --all --json").json
    assert [row["node_id"] for row in answers] == [row["node_id"] for row in rows]
    assert len(forwarders(ops)) == 1


def test_ctrl_c_shows_what_was_done_and_names_the_rest(ops: Person) -> None:
    argv = [str(BIN / "inv"), "node.prepare", "--all", "--jobs", "2"]
    with subprocess.Popen(
        argv, cwd=TOP, env=ops.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        next(line for line in process.stderr if line.startswith(NAMES[2]))  # so one of the first two is done
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    done = [line.split("\t")[0] for line in out.splitlines()]
    assert process.returncode == 2
    assert done and set(done) < set(NAMES)
    (last,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert last.startswith(f"error: cancelled: {len(done)} of 30 nodes are done; in progress: ")
    in_progress, _, not_started = last.partition("in progress: ")[2].partition("; not started: ")
    assert sorted([*done, *in_progress.split(", "), *not_started.split(", ")]) == NAMES
    assert NAMES[-1] in not_started


def test_those_that_fail_stop_no_other(ops: Person) -> None:
    ops.runs("inv node.disconnect --all")
    ops.lab_node(OFF).power_cut()
    pins = ops.registry.parent / "known_hosts"
    host, true = ops.lab_entry(FOREIGN)["host"], pins.read_text()
    other = [line for line in true.splitlines() if line.startswith(f"{ops.lab_entry(OFF)['host']} ")]
    pins.write_text("".join(line + "\n" for line in true.splitlines() if not line.startswith(f"{host} ")))
    with pins.open("a") as file:
        file.writelines(f"{host} {line.split(' ', 1)[1]}\n" for line in other)
    for command, well in (("prepare", "nothing to do"), ("connect", "ready"), ("version", None)):
        said = ops.runs(f"inv node.{command} --all --json", code=1)  # for the reasons differ: 4 and 5
        rows = {row.get("node") or row["name"]: row for row in said.json}
        assert list(rows) == NAMES
        bad = {name: row["kind"] for name, row in rows.items() if "error" in row}
        assert bad == {OFF: "Unreachable", FOREIGN: "HostKeyChanged"}
        assert all(well in (None, *row.values()) for name, row in rows.items() if name not in bad)
        assert said.err.count("2 of 30 nodes failed") == 1
    lines = ops.runs(f"inv node.version --node {NAMES[0]} --node {OFF}", code=5).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [NAMES[0], OFF]
