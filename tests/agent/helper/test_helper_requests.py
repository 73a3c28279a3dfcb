"""The time limit of a request and the idle end; the verbs themselves are tested on nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.shared import framing

pytestmark = pytest.mark.slow

# One child of the helper on an inherited socket, with a shorter time limit.
CHILD = """
import os, pwd, socket, sys, types
from agent.helper import server
server.REQUEST_TIMEOUT_S = 1
pwd.getpwnam = lambda login: types.SimpleNamespace(pw_uid=os.getuid())
server.Handler(socket.socket(fileno=int(sys.argv[1])), "", types.SimpleNamespace(is_fresh=False))
"""


# A helper that is idle sooner; what its verbs do comes from the test.
SERVER = """
import os, pwd, socket, sys, time, types
from agent.helper import server
assert server.IDLE_S == server.Server.timeout == 60
server.Server.timeout = 0.5
server.trash.empty_quietly = server.logins.finish_sweeps = server.Ledger.check_once = lambda: None
server.systemd_socket = lambda: int(sys.argv[1])
exec(sys.argv[2])
pwd.getpwnam = lambda login: types.SimpleNamespace(pw_uid=os.getuid())
server.serve()
"""

# A verb with an account tool that ends when it is told to; then it says so.
TOOL = """
def call(verb, arguments, *_):
    import subprocess
    return subprocess.run(["sh", "-c", "read go <begun; echo whole >ended"], cwd=arguments["folder"]).returncode
server.verbs.call = call
"""
# What comes after a reply takes for ever.
AFTERWARDS = """
import signal
server.verbs.call = lambda *_: None
server.logins.finish_sweeps = signal.pause
"""


@pytest.fixture
def child() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-c", CHILD, str(theirs.fileno())]
            started = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        with started:
            yield ours, started
            started.kill()


def test_a_request_that_drips_is_cut_off(child: tuple[socket.socket, subprocess.Popen[bytes]]) -> None:
    ours, started = child
    ours.settimeout(0.05)
    ours.sendall(b"\0\0\x10\0")
    while started.poll() is None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            ours.send(b" ")
            ours.recv(1)
    assert started.returncode == -signal.SIGALRM


@contextlib.contextmanager
def serving(folder: Path, verbs: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a helper whose verbs do this, on a socket in a folder."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen()
        command = [sys.executable, "-c", SERVER, str(listening.fileno()), verbs]
        with subprocess.Popen(command, pass_fds=[listening.fileno()]) as helper:
            try:
                yield helper
            finally:
                helper.kill()


@contextlib.contextmanager
def asking(folder: Path) -> Iterator[socket.socket]:
    """Ask the helper in a folder for its verb."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(folder / "socket"))
        framing.send(caller, {"verb": "any", "arguments": {"folder": str(folder)}})
        yield caller


def test_it_ends_when_it_was_idle_for_a_while_and_nothing_works(tmp_path: Path) -> None:
    begun = time.monotonic()
    with serving(tmp_path, "server.verbs.call = lambda *_: time.sleep(2)") as helper:
        for count in (1, 2):
            with asking(tmp_path) as caller:
                # Longer than its idle time: what works keeps it.
                assert framing.receive(caller, 1 << 10) == {"result": None}
            assert helper.poll() is None
            assert time.monotonic() - begun > 2 * count
        assert helper.wait(timeout=10) == 0


def test_who_stops_it_waits_for_its_verbs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    with serving(tmp_path, TOOL) as helper, asking(tmp_path) as caller:
        with (tmp_path / "begun").open("w") as go:  # the tool has begun
            helper.terminate()
            go.write("go\n")
        assert framing.receive(caller, 1 << 10) == {"result": 0}
        assert helper.wait(timeout=10) == 0
        assert (tmp_path / "ended").read_text() == "whole\n"


def test_who_stops_it_does_not_wait_for_what_the_next_one_does_too(tmp_path: Path) -> None:
    with serving(tmp_path, AFTERWARDS) as helper, asking(tmp_path) as caller:
        assert framing.receive(caller, 1 << 10) == {"result": None}
        helper.terminate()
        assert helper.wait(timeout=10) == 0
