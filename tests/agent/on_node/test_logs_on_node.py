"""node.logs on a real node: the last lines, each new one, and nothing left behind however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from codesmith.errors import Unreachable
from codesmith.fleet import agent_service
from codesmith.nodes.registry import Registry
from tests.person import BIN, TOP, Person

PATIENCE_S = 60
FOLLOWS = "pgrep -x journalctl"


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """Somebody with one prepared node."""
    person = make_person({"web1": "bookworm"})
    person.prepare()
    return person


@contextmanager
def following(ops: Person, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Follow the journal; a first line has been shown."""
    argv = [str(BIN / "inv"), "node.logs", "--follow", *words]
    with subprocess.Popen(
        argv, cwd=TOP, env=ops.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout and process.stdout.readline()
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Wait for a line; the test's own time limit ends a wait for one that does not come."""
    assert process.stdout
    return next(line for line in process.stdout if text in line)


def wait_until_nobody_follows(ops: Person) -> None:
    ops.wait_until(lambda: not ops.on("web1", FOLLOWS, check=False).ok, within_s=PATIENCE_S)


def restart(ops: Person, unit: str) -> None:
    # systemd starts a unit only so often in a time.
    ops.on("web1", f"systemctl reset-failed {unit}; systemctl restart {unit}")


def test_new_lines_of_both_units_come_and_ctrl_c_ends_with_0(ops: Person) -> None:
    with following(ops, "--lines", "3") as process:
        restart(ops, agent_service.SERVICE)
        assert agent_service.SERVICE in line_with(process, f"Started {agent_service.SERVICE}")
        restart(ops, agent_service.HELPER)
        line_with(process, f"Started {agent_service.HELPER}")
        assert ops.on("web1", FOLLOWS).ok
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    wait_until_nobody_follows(ops)


def test_as_json_each_line_is_a_text(ops: Person) -> None:
    with following(ops, "--json", "--lines", "1") as process:
        restart(ops, agent_service.SERVICE)
        assert agent_service.SERVICE in json.loads(line_with(process, "Started"))


def test_a_follower_that_is_killed_leaves_nothing_on_the_node(ops: Person) -> None:
    with following(ops) as process:
        assert ops.on("web1", FOLLOWS).ok
        process.kill()
        process.wait()
    wait_until_nobody_follows(ops)


def test_a_reader_that_has_seen_enough_ends_it(ops: Person) -> None:
    with following(ops) as process:
        assert process.stdout and process.stderr
        process.stdout.close()

        def has_ended() -> bool:
            restart(ops, agent_service.SERVICE)
            return process.poll() is not None

        ops.wait_until(has_ended, within_s=PATIENCE_S)
        assert (process.returncode, process.stderr.read()) == (0, "")
    wait_until_nobody_follows(ops)


def test_a_lost_connection_is_one_clear_error(ops: Person) -> None:
    with following(ops) as process:
        ops.on("web1", "pkill -f '^sshd: root'")
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert "the connection was lost" in err
    wait_until_nobody_follows(ops)


def test_a_node_that_falls_silent_is_lost(ops: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESMITH_HOME", str(ops.home))
    monkeypatch.setattr(agent_service, "SILENCE_S", 2.0)
    lab_node = ops.lab_node("web1")

    def show(line: str) -> bool:
        lab_node.cut_network()
        return True

    try:
        with pytest.raises(Unreachable, match="no sign of life for 2 s"):
            agent_service.follow(Registry.load(ops.registry).get("web1"), 1, show)
    finally:
        lab_node.restore_network()


def test_without_follow_it_shows_and_ends(ops: Person) -> None:
    lines = ops.runs("inv node.logs --lines 2").out.splitlines()
    assert len(lines) == 2
    assert ops.runs("inv node.logs --lines 2 --json").json == lines
    assert "--lines takes a whole number from 0, not -1" in ops.runs("inv node.logs --lines=-1", code=1).err


def test_a_journal_that_cannot_be_read_leads_to_the_doctor(ops: Person) -> None:
    ops.on("web1", "mv /usr/bin/journalctl /usr/bin/journalctl.off")
    try:
        said = ops.fails("inv node.logs --node web1", code=1)
    finally:
        ops.on("web1", "mv /usr/bin/journalctl.off /usr/bin/journalctl")
    assert "error: web1: cannot read the journal: " in said.err
    assert "hint: inv node.doctor --node web1" in said.err


def test_a_node_without_agent_has_no_journal_of_it(ops: Person) -> None:
    unit = "/etc/systemd/system/codesmith-agent.service"
    ops.on("web1", f"systemctl stop codesmith-agent; mv {unit} /root/; systemctl daemon-reload")
    try:
        said = ops.fails("inv node.logs --follow", code=5)
    finally:
        ops.on("web1", f"mv /root/codesmith-agent.service {unit}; systemctl daemon-reload")
    assert "inv node.prepare" in said.err
