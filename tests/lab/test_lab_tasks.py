"""`inv lab.*` as a person types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.lab import commands
from codesmith.nodes.registry import Node

TOP = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.lab


@pytest.fixture
def inv(lab, tmp_path, codesmith_home, monkeypatch):
    """Run `inv` in a lab home of its own, so that `--all` means the nodes of this test."""
    monkeypatch.setenv("CODESMITH_LAB_HOME", str(tmp_path / "lab"))
    nodes = codesmith_home / "nodes.yaml"
    nodes.write_text("nodes:\n  far:\n    host: far.example.org\n  near:\n    lab: bookworm\n")
    monkeypatch.setenv("CODESMITH_NODES", str(nodes))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *words], cwd=TOP, env=os.environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    yield run
    run("lab.down", "--all", "--yes")


def test_the_image_of_a_machine_is_built_before_it_boots(lab, monkeypatch):
    built = []
    monkeypatch.setattr(commands.vm, "ensure_image", built.append)
    commands.booter([Node("machine", Path("nodes.yaml"), lab="trixie-vm")])
    assert built == ["trixie-vm"]


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_up_status_down(inv):
    (up,) = rows(inv("lab.up", "--json"))
    assert (up["name"], up["release"], up["state"]) == ("near", "bookworm", "running")
    entered = subprocess.run([*str(up["ssh"]).split(), "hostname"], capture_output=True, text=True, timeout=60)
    assert entered.stdout == "near\n", entered.stderr
    (again,) = rows(inv("lab.up", "--json"))
    assert again["host"] == up["host"]
    (found,) = rows(inv("lab.status", "--json"))
    assert found["memory_kib"] > 1000
    assert inv("lab.down").stdout == "near\tremoved\t\n"
    assert inv("lab.down").stdout == "near\twas not there\t\n"
    assert rows(inv("lab.status", "--json")) == []


@pytest.mark.long
def test_nodes_that_ask_for_a_bridge_share_it(inv, codesmith_home):
    entries = [f"  {name}:\n    lab: bookworm\n    bridge: club\n" for name in ("git", "web")]
    (codesmith_home / "nodes.yaml").write_text("nodes:\n" + "".join(entries))
    git, web = rows(inv("lab.up", "--json"))
    (extra,) = rows(inv("lab.up", "--node", "extra", "--release", "bookworm", "--bridge", "club", "--json"))
    hosts = [row["bridge_host"] for row in (git, web, extra)]
    assert {row["bridge"] for row in (git, web, extra)} == {"club"} and len(set(hosts)) == 3
    found = subprocess.run([*extra["ssh"].split(), "getent hosts git.lab web.lab"], capture_output=True, text=True)
    assert found.stdout.split() == [hosts[0], "git.lab", hosts[1], "web.lab"], found.stderr
    refused = inv("lab.up", "--node", "git", "--bridge", "other")
    assert "lab node 'git' is on the bridge 'club', not on 'other'" in refused.stderr


@pytest.mark.long
def test_a_release_on_the_command_line_needs_no_entry(inv):
    assert rows(inv("lab.up", "--node", "extra", "--release", "trixie", "--json"))[0]["release"] == "trixie"
    refused = inv("lab.down", "--all")
    assert refused.returncode == 2
    assert "hint: inv lab.down --node extra" in refused.stderr
    assert inv("lab.down", "--all", "--yes").stdout == "extra\tremoved\t\n"


def test_down_removes_what_is_there_and_reports_what_is_not(inv):
    rows(inv("lab.up", "--json"))
    done = inv("lab.down", "--node", "gone", "--node", "near", "--node", "far", "--json")
    gone, near, far = json.loads(done.stdout)
    assert near == {"name": "near", "result": "removed"}
    assert (gone["name"], gone["kind"]) == ("gone", "UnknownNode")
    assert "no node 'gone'" in gone["error"] and "is no lab node" in far["error"]
    said = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (done.returncode, said["problem"].splitlines()[0]) == (1, "2 of 3 nodes failed:")
    assert rows(inv("lab.status", "--json")) == []
    alone = inv("lab.down", "--node", "gone")
    assert (alone.returncode, alone.stderr.startswith("error: no node 'gone' in ")) == (3, True)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["--node", "typo"], 3, "no node 'typo'"),
        (["--node", "far"], 1, "node 'far' in .* is no lab node"),
        (
            ["--release", "potato"],
            1,
            "--release takes one of bookworm, trixie, bullseye, bookworm-vm, trixie-vm, not 'potato'",
        ),
    ],
)
def test_up_refuses_what_it_cannot_boot(inv, words, code, problem):
    done = inv("lab.up", *words)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert re.search(problem, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
