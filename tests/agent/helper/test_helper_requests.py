"""The time limit of a request; the verbs themselves are tested on nodes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

# One child of the helper on an inherited socket, with a shorter time limit.
CHILD = """
import os, pwd, socket, sys, types
from agent.helper import server
server.REQUEST_TIMEOUT_S = 1
pwd.getpwnam = lambda login: types.SimpleNamespace(pw_uid=os.getuid())
server.Handler(socket.socket(fileno=int(sys.argv[1])), "", types.SimpleNamespace(is_fresh=False))
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
