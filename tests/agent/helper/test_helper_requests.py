"""The time limit of a request and the idle end; the verbs themselves are tested on nodes."""

from __future__ import annotations

import contextlib
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


# A helper that is idle sooner; what its verbs do is to sleep.
SERVER = """
import os, pwd, socket, sys, time, types
from agent.helper import server
assert server.IDLE_S == server.Server.timeout == 60
server.Server.timeout = 0.5
server.trash.empty_quietly = server.logins.finish_sweeps = server.Ledger.check_once = lambda: None
server.systemd_socket = lambda: int(sys.argv[1])
server.verbs.call = lambda *_: time.sleep(2)
pwd.getpwnam = lambda login: types.SimpleNamespace(pw_uid=os.getuid())
server.serve()
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


def test_it_ends_when_it_was_idle_for_a_while_and_nothing_works(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        command = [sys.executable, "-c", SERVER, str(listening.fileno())]
        begun = time.monotonic()
        with subprocess.Popen(command, pass_fds=[listening.fileno()]) as helper:
            try:
                for count in (1, 2):
                    with socket.socket(socket.AF_UNIX) as caller:
                        caller.settimeout(30)
                        caller.connect(str(tmp_path / "socket"))
                        framing.send(caller, {"verb": "sleep", "arguments": {}})
                        # Longer than its idle time: what works keeps it.
                        assert framing.receive(caller, 1 << 10) == {"result": None}
                    assert helper.poll() is None
                    assert time.monotonic() - begun > 2 * count
                assert helper.wait(timeout=10) == 0
            finally:
                helper.kill()
