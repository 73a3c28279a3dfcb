"""What cannot be read is never reported as missing: each look is disturbed on a real node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.person import Person
from tests.releases import TRIXIE_FIRST

pytestmark = TRIXIE_FIRST
Row = dict[str, str]
# Comes before the real one in PATH.
SYSTEMCTL = "/usr/local/sbin/systemctl"


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person], release: str) -> Person:
    """A person who logs in to a prepared node as `ops`, with sudo; another login there has no sudo."""
    person = make_person({"web1": release})
    person.lab_node("web1").add_login("ops", sudo="nopasswd")
    person.lab_node("web1").add_login("plain")
    log_in_as(person, "ops")
    person.prepare()
    return person


def log_in_as(person: Person, user: str) -> None:
    person.write_registry({"web1": {**person.lab_entry("web1"), "user": user}})


def examine(person: Person, *, code: int) -> dict[str, Row]:
    rows = person.runs("inv node.doctor --json", code=code).json
    return {row["code"]: row for row in rows if row["node"] == "web1"}


def bad(found: dict[str, Row]) -> dict[str, str]:
    return {code: row["status"] for code, row in found.items() if row["status"] != "ok"}


@contextmanager
def defaults(person: Person, words: str) -> Iterator[None]:
    file = "/etc/sudoers.d/zz-test"
    with person.meanwhile("web1", f"echo 'Defaults {words}' >{file}; chmod 440 {file}; visudo -c", f"rm {file}"):
        yield


@contextmanager
def tool(person: Person, path: str, text: str) -> Iterator[None]:
    """Put a tool in front of, or in place of, that of the system."""
    kept = f"[ ! -e {path} ] || mv {path} {path}.kept"
    with person.meanwhile(
        "web1",
        f"{kept}; printf '#!/bin/sh\n%s\n' '{text}' >{path}; chmod 755 {path}",
        f"rm {path}; [ ! -e {path}.kept ] || mv {path}.kept {path}",
    ):  # fmt: skip
        yield


TOGETHER = "log_input, log_output, use_pty"
ALONE = [
    pytest.param(words, marks=pytest.mark.long)
    for words in (
        "log_input", "log_output", "use_pty", "lecture=always", "!use_pty", "timestamp_type=tty, timestamp_timeout=0",
        "runas_default=nobody", "umask=0777, umask_override",
    )
]  # fmt: skip


@pytest.mark.parametrize("words", [TOGETHER, *ALONE])
def test_a_sudo_that_reads_or_writes_along_changes_nothing(ops: Person, words: str) -> None:
    with defaults(ops, words):
        assert bad(examine(ops, code=0)) == {}
        assert ops.runs("inv node.verify").code == 0
        assert "nothing to do" in ops.runs("inv node.prepare").err


@pytest.mark.parametrize("words", ["requiretty", pytest.param("noexec", marks=pytest.mark.long)])
def test_a_sudo_that_refuses_for_another_reason_says_its_own(ops: Person, words: str) -> None:
    with defaults(ops, words):
        found = examine(ops, code=0)
    assert words in found["node.root"]["detail"]
    assert f"!{words}" in found["node.root"]["next"]
    unseen = ("node.root", "node.accounts", "node.door", "agent.drift")
    assert bad(found) == dict.fromkeys(unseen, "warn")
    assert {found[code]["detail"].partition(" can ")[0] for code in unseen[1:]} == {"only root"}


FAILURES = {
    "fails": ("exit 1", "failed with status 1"),
    "is killed": ("kill -9 $$", "failed with status 137"),
    "says nothing": ("exit 0", "is incomplete"),
    "says half": ('echo "{\\"os\\": {}, "', "is incomplete"),
}
# Those that fail like another one of them.
ALIKE = ("is killed", "says nothing", "says half")


@pytest.mark.parametrize(
    ("text", "words"),
    [pytest.param(*FAILURES[name], id=name, marks=[pytest.mark.long] * (name in ALIKE)) for name in FAILURES],
)
def test_a_python_that_does_not_run_our_program_is_no_missing_python(ops: Person, text: str, words: str) -> None:
    with tool(ops, "/usr/bin/python3", text):
        found = examine(ops, code=1)
        assert words in found["node.look"]["detail"]
        assert set(found) == {"endpoint.state", "ssh.carrier", "ssh.identity", "ssh.config", "ssh.reach",
                              "ssh.host-key", "ssh.login", "ssh.shell", "node.look"}  # fmt: skip
        for command in ("verify", "prepare", "uninstall --yes", "rollback"):
            said = ops.fails(f"inv node.{command} --node web1", code=1)
            assert words in said.err, said.err
    assert bad(examine(ops, code=0)) == {}


def test_a_systemd_that_does_not_answer_is_no_stopped_agent(ops: Person) -> None:
    with tool(ops, SYSTEMCTL, 'echo "Failed to get properties: Connection timed out" >&2; exit 1'):
        found = examine(ops, code=1)
        assert "units: Failed to get properties: Connection timed out" in found["node.look"]["detail"]
        assert found["agent.units"]["detail"].startswith("unknown")
        assert found["agent.answers"]["status"] == "ok"
        for command in ("verify", "prepare"):
            assert "could not look at" in ops.fails(f"inv node.{command}", code=1).err
        said = ops.fails("inv node.start", code=1)
        assert "Connection timed out" in said.err
        assert "no CodeSmith agent" not in said.err
    assert bad(examine(ops, code=0)) == {}


def test_a_masked_agent_is_not_a_missing_one(ops: Person) -> None:
    unit = "/etc/systemd/system/codesmith-agent.service"
    mask = f"mv {unit} /root/unit; ln -s /dev/null {unit}; systemctl daemon-reload"
    with ops.meanwhile("web1", mask, f"mv /root/unit {unit}; systemctl daemon-reload"):
        assert "codesmith-agent.service masked" in ops.fails("inv node.restart", code=1).err


def test_what_a_login_cannot_see_is_not_missing_to_it(ops: Person) -> None:
    closed = "chmod 700 /usr/lib/codesmith /etc/codesmith"
    with ops.meanwhile("web1", closed, "chmod 755 /usr/lib/codesmith /etc/codesmith"):
        ops.runs("inv node.disconnect --all")
        said = ops.fails("inv node.connect", code=5)
        assert "cannot tell whether web1 has a CodeSmith agent" in said.err
        assert "Permission denied" in said.err
        ops.runs("inv node.disconnect --all")
        log_in_as(ops, "plain")
        try:
            found = examine(ops, code=1)
        finally:
            log_in_as(ops, "ops")
    assert "/etc/codesmith/node.json: Permission denied" in found["node.look"]["detail"]
    assert found["agent.installed"]["detail"].startswith("unknown")
    assert found["agent.node-id"]["detail"].startswith("unknown")


@pytest.mark.long
def test_processes_out_of_sight_are_no_missing_systemd(ops: Person) -> None:
    with ops.meanwhile("web1", "mount -o remount,hidepid=2 /proc", "mount -o remount,hidepid=0 /proc"):
        assert bad(examine(ops, code=0)) == {}
        log_in_as(ops, "plain")
        try:
            assert examine(ops, code=1)["node.system"]["status"] == "ok"
        finally:
            log_in_as(ops, "ops")


def test_accounts_that_cannot_be_read_are_not_gone(ops: Person) -> None:
    ops.runs("inv node.connect; inv user.create ada")
    try:
        with ops.meanwhile("web1", "chmod 600 /etc/passwd", "chmod 644 /etc/passwd"):
            health = {one["name"]: one for one in ops.runs("inv node.health --json", check=False).json[0]["checks"]}
    finally:
        ops.runs("inv user.delete ada --yes; inv node.disconnect --all")
    assert (health["accounts"]["status"], "/etc/passwd: Permission denied" in health["accounts"]["detail"]) == (
        "failing",
        True,
    )
