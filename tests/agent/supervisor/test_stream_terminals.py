"""Terminals of `run`: their size, their keys, and their end."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from agent.shared import framing
from tests.agent.supervisor.client import (
    INPUT,
    RESIZE,
    SIGNAL,
    Stream,
    command,
    run,
)
from tests.agent.supervisor.conftest import Supervisor

TTY = {"rows": 24, "cols": 80, "term": "xterm-256color"}


def names_of(supervisor: Supervisor) -> list[str]:
    """Return the names of what runs as its login."""
    names = []
    for pid in supervisor.pids():
        with contextlib.suppress(OSError):
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return names


def test_a_terminal_has_its_size_and_learns_of_another(supervisor: Supervisor) -> None:
    script = (
        "trap 'stty size' WINCH; tty; stty size; echo $TERM; while read line; do echo \"got $line\"; done; echo over"
    )
    with run(supervisor, "bash", "-c", script, tty=TTY) as stream:
        there = stream.until(b"xterm-256color\r\n")
        assert there.startswith(b"/dev/pts/")
        assert b"24 80\r\n" in there
        stream.send(RESIZE, json.dumps({"rows": 50, "cols": 132}).encode())
        stream.send(INPUT, b"word\n")
        there = stream.until(b"got word\r\n")  # the shell tells of its trap before this or after
        if b"50 132\r\n" not in there:
            stream.until(b"50 132\r\n")
        stream.send(INPUT)
        stdout, stderr, ended = stream.rest()
    assert (stdout[-6:], stderr, ended["exit_code"]) == (b"over\r\n", b"", 0)


@pytest.mark.parametrize("way", ["input", "signal"])
def test_control_c_in_a_terminal_reaches_its_foreground(supervisor: Supervisor, way: str) -> None:
    with run(supervisor, "bash", "--norc", "-i", tty=TTY) as stream:
        stream.send(INPUT, b'PS1=re""ady:\n')
        stream.until(b"ready:")
        stream.send(INPUT, b"sh -c 'sleep 1000; echo never'\n")
        # A shell that is interrupted while it starts a program goes on waiting for it.
        supervisor.wait_until(lambda: "sleep" in names_of(supervisor))
        stream.send(*((INPUT, b"\x03") if way == "input" else (SIGNAL, b"SIGINT")))
        stream.send(INPUT, b'echo co""de $?\n')
        stream.until(b"code 130\r\n")
        stream.send(INPUT, b"exit 5\n")
        assert stream.rest()[2]["exit_code"] == 5


def test_the_last_output_of_a_terminal_is_not_lost(supervisor: Supervisor) -> None:
    for size in (1000, 10_000, 200_000):
        with run(supervisor, "sh", "-c", f"yes | head -c {size}", tty=TTY) as stream:
            assert len(stream.rest()[0]) == size // 2 * 3


@pytest.mark.slow
def test_a_job_that_closes_its_terminal_goes_on(supervisor: Supervisor) -> None:
    script = "exec <&- >&- 2>&-; sleep 0.5; exec >/dev/tty; echo back; exit 4"
    with run(supervisor, "bash", "-c", script, tty=TTY) as stream:
        stdout, _, ended = stream.rest()
    assert (stdout, ended["exit_code"]) == (b"back\r\n", 4)


@pytest.mark.slow
def test_a_terminal_whose_leader_has_ended_harms_nobody(supervisor: Supervisor) -> None:
    """During the grace of a stop its children are still there."""
    script = "trap '' TERM HUP; (trap '' TERM HUP; sleep 1000) & echo begun; trap - TERM; wait"
    fields = command("bash", "-c", script, tty=TTY)
    supervisor.ask("job_start", **fields)
    with Stream(supervisor, "job_attach", id=fields["id"], offset=0) as stream:
        stream.until(b"begun\r\n")
        with supervisor.send("job_stop", id=fields["id"], grace_s=1.5) as stopping:
            leader = f"/proc/{min(supervisor.pids())}"
            supervisor.wait_until(lambda: not os.path.exists(leader))
            stream.send(RESIZE, b'{"rows":3,"cols":4}')
            stream.send(SIGNAL, b"SIGWINCH")
            stream.send(INPUT, b"x")
            stream.send(INPUT)
            assert supervisor.run("echo", "well")["stdout"] == "well\n"
            assert stream.rest()[2]["killed_by"] == "operator"
            assert framing.receive(stopping, 1 << 20)["result"]["job"]["state"] == "killed"
