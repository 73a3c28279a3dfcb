"""Verify, rollback and uninstall as a person types them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.person import TOP, Person, Said

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def person(make_person: Callable[..., Person]) -> Person:
    """Somebody with one prepared throw-away node, `web1`."""
    person = make_person({"web1": "bookworm"})
    person.fails("inv node.verify", code=5)
    person.fails("inv node.rollback", code=5)
    assert person.runs("inv node.uninstall").out.split("\t")[:2] == ["web1", "nothing to do"]
    person.runs("inv node.prepare")
    return person


def at_a_terminal(person: Person, command: str, typed: str) -> Said:
    """Run a command on a terminal of its own and answer its question."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=TOP, env={**person.environment, "TERM": "dumb"}, stdin=there, stdout=there,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    os.close(there)
    os.write(here, typed.encode())
    _, err = process.communicate(timeout=120)
    out = b""
    while select.select([here], [], [], 0)[0]:
        try:
            out += os.read(here, 65536)
        except OSError:
            break
    os.close(here)
    return Said(process.returncode, out.decode(), err.decode())


def test_verify_is_silent_about_what_is_well_and_tells_drift(person: Person) -> None:
    (row,) = person.runs("inv node.verify --json").json
    assert row["status"] == "ok"
    assert person.runs("inv node.verify").out == f"web1\tall\t{len(row['findings'])} things\tok\t\t\t\n"
    person.on("web1", "chmod 777 /srv/codesmith/.trash")
    said = person.runs("inv node.verify", code=1)
    assert said.out == "web1\tdirectory\t/srv/codesmith/.trash\tchanged\t0700 root:root\t0777 root:root\t\n"
    assert "inv node.prepare --node web1" in said.err
    (row,) = person.runs("inv node.verify --json", code=1).json
    assert {one["status"] for one in row["findings"]} == {"ok", "changed"}
    person.runs("inv node.prepare")
    person.runs("inv node.verify")


def test_rollback_without_a_release_before_says_so(person: Person) -> None:
    assert "there is no release to go back to" in person.fails("inv node.rollback", code=1).err


def test_uninstall_asks_refuses_and_leaves_nothing(person: Person, tmp_path: Path) -> None:
    person.runs("inv workspace.create demo")
    said = person.fails("inv node.uninstall --yes", code=1)
    assert "node web1 is lived in: workspaces demo; users demo" in said.err
    assert "inv node.uninstall --node web1 --purge --yes" in said.err
    said = person.fails("inv node.uninstall --purge", code=2)  # nobody there to ask
    assert "web1  delete the workspaces demo and the users demo" in said.err
    plan = person.runs("inv node.uninstall --purge --plan --json", code=7).json
    assert {"resident", "unit", "release", "link", "directory", "user", "group", "node", "ledger"} == {
        step["kind"] for step in plan[0]["steps"]
    }
    assert at_a_terminal(person, "inv node.uninstall --purge", "n\n").code == 2
    assert person.runs("inv workspace.list --json").json
    other = {**person.environment, "CODESMITH_HOME": str(tmp_path)}
    command = ["inv", "node.version"]
    assert subprocess.run(command, cwd=TOP, env=other, check=True, capture_output=True).stdout
    assert at_a_terminal(person, "inv node.uninstall --purge", "y\n").code == 0
    try:
        assert person.runs("inv node.status").out == ""
        assert not list((person.home / "known_nodes").glob("*"))
        person.fails("inv node.version", code=5)
        # Another operator, whose endpoint was up meanwhile.
        theirs = subprocess.run(command, cwd=TOP, env=other, check=False, capture_output=True, text=True)
        assert theirs.returncode == 5
        assert "has no CodeSmith agent" in theirs.stderr
        assert "hint: inv node.prepare --node web1" in theirs.stderr
    finally:
        subprocess.run(["inv", "node.disconnect"], cwd=TOP, env=other, check=True, capture_output=True)
    assert person.on("web1", "find / -xdev -name '*codesmith*' -not -path '/proc/*'").out == ""
