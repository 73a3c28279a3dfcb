"""Verify, rollback and uninstall, as typed by a person."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.person import TOP, Person

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def bare(make_person: Callable[..., Person]) -> Person:
    """A person with one throw-away node, `web1`, not prepared."""
    return make_person({"web1": "bookworm"})


@pytest.fixture(scope="module")
def person(bare: Person) -> Person:
    """The same person, with the node prepared."""
    bare.fails("inv node.verify", code=5)
    bare.fails("inv node.rollback", code=5)
    assert bare.runs("inv node.uninstall").out.split("\t")[:2] == ["web1", "nothing to do"]
    bare.prepare()
    return bare


EVERYTHING = "find /etc /usr /srv -xdev -printf '%p %m %u %T@ %s\\n' | sort; getent passwd; getent group"


def test_a_plan_tells_before_and_after_of_everything_and_changes_nothing(bare: Person) -> None:
    bare.on("web1", "mv /usr/bin/git /usr/bin/git.off")
    before = bare.on("web1", EVERYTHING).out
    try:
        (planned,) = bare.runs("inv node.prepare --plan --json", code=7).json
        shown = bare.runs("inv node.prepare --plan", code=7).out
        (dry,) = bare.runs("inv --dry node.prepare --json", code=7).json
        assert bare.on("web1", EVERYTHING).out == before
    finally:
        bare.on("web1", "mv /usr/bin/git.off /usr/bin/git")
    steps = planned["steps"]
    assert (planned["result"], planned["changed"], dry["steps"]) == ("planned", False, steps)
    assert {"directory", "group", "link", "package", "release", "service", "unit", "user"} <= {
        step["kind"] for step in steps
    }
    assert all(step["before"] and step["after"] and step["before"] != step["after"] for step in steps)
    lines = [line.split("\t") for line in shown.splitlines()]
    assert lines == [["web1", step["text"], step["before"], step["after"], ""] for step in steps]


def test_of_a_prepared_node_the_plan_is_empty(person: Person) -> None:
    assert person.runs("inv node.prepare --plan").out == "web1\tnothing to do\t\t\t\n"
    assert person.runs("inv --dry node.prepare --json").json[0]["steps"] == []


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
    person.prepare()
    # What others add to a unit changes who runs it; prepare leaves it, so it is told.
    folder = "/etc/systemd/system/codesmith-agent.service.d"
    add = f"mkdir {folder}; printf '[Service]\\nUser=root\\n' >{folder}/x.conf; systemctl daemon-reload"
    person.on("web1", add)
    try:
        said = person.runs("inv node.verify", code=1)
        (found,) = [row for row in person.runs("inv node.doctor --json").json if row["code"] == "agent.drift"]
    finally:
        person.on("web1", f"rm -r {folder}; systemctl daemon-reload")
    assert said.out == f"web1\tdrop-in\t{folder}/x.conf\textra\tmissing\tthere\t\n"
    assert said.err == f"on web1, not written by CodeSmith and not changed by prepare: {folder}/x.conf\n"
    assert (found["status"], found["next"]) == ("warn", f"on the node: cat {folder}/x.conf")
    person.runs("inv node.verify")


@pytest.mark.long
def test_an_agent_that_does_not_answer_has_not_been_started(person: Person) -> None:
    release = "/usr/lib/codesmith/current/"
    person.on("web1", f"chmod 000 {release}")
    try:
        said = person.fails("inv node.restart", code=1)
    finally:
        person.on("web1", f"chmod 755 {release}")
    assert "cannot restart codesmith-agent.service: the agent did not answer: " in said.err
    assert "Permission denied" in said.err
    assert person.runs("inv node.start").out == "web1\tcodesmith-agent.service\tactive\t\n"
    person.runs("inv node.version")


def test_rollback_without_a_release_before_says_so(person: Person) -> None:
    assert "there is no release to go back to" in person.fails("inv node.rollback", code=1).err


def test_uninstall_asks_refuses_and_leaves_nothing(person: Person, codesmith_home: Path) -> None:
    person.runs("inv workspace.create demo")
    connected = person.runs("inv node.status --json").json[0]["since"]
    for asked in ("", " --yes"):
        said = person.fails(f"inv node.uninstall{asked}", code=1)
        assert "error: node web1 is in use: workspaces demo; users demo" in said.err
    assert person.runs("inv node.status --json").json[0]["since"] == connected  # what refuses cuts nobody off
    assert "inv node.uninstall --node web1 --purge --yes" in said.err
    said = person.fails("inv node.uninstall --purge", code=2)  # nobody there to ask
    assert "web1  delete the workspaces demo and the users demo" in said.err
    plan = person.runs("inv node.uninstall --purge --plan --json", code=7).json
    assert {"resident", "unit", "release", "link", "file", "directory", "user", "group", "node", "ledger"} == {
        step["kind"] for step in plan[0]["steps"]
    }
    person.types("inv node.uninstall --purge", ("[y/N]", "n"), code=2)
    assert person.runs("inv workspace.list --json").json
    other = {**person.environment, "CODESMITH_HOME": str(codesmith_home)}
    command = ["inv", "node.version"]
    assert subprocess.run(command, cwd=TOP, env=other, check=True, capture_output=True).stdout
    person.types("inv node.uninstall --purge", ("[y/N]", "y"))
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
