"""The forwarded ssh agent inside a job: which requests pass, and which processes may connect."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.git import agent_forwarding

LISTED = b"\x0c\0\0\0\0"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[bytes]]]:
    """The path of a forwarded agent, and the requests that reached the agent."""
    ours, lent = socket.socketpair()
    requests: list[bytes] = []

    def answer() -> None:
        with ours:
            try:
                while True:
                    requests.append(agent_forwarding.receive(ours))
                    agent_forwarding.send(ours, LISTED)
            except ConnectionError:
                return

    thread = threading.Thread(target=answer)
    thread.start()
    with agent_forwarding.served(lent) as path:
        yield path, requests
    thread.join(10)
    assert not os.path.exists(os.path.dirname(path))


def ask(path: str, *requests: bytes) -> list[bytes]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(path)
        replies = []
        for request in requests:
            agent_forwarding.send(connection, request)
            replies.append(agent_forwarding.receive(connection))
        return replies


def test_only_listing_and_signing_pass(asked: tuple[str, list[bytes]]) -> None:
    path, reached = asked
    others = [bytes([number]) + b"x" for number in (1, 9, 17, 18, 19, 20, 22, 23, 25, 26, 27, 200)]
    assert ask(path, *others) == [agent_forwarding.FAILURE] * len(others)
    assert reached == []
    assert ask(path, b"\x0b", b"\x0dkey") == [LISTED, LISTED]
    assert ask(path, b"\x0b") == [LISTED]
    assert reached == [b"\x0b", b"\x0dkey", b"\x0b"]


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\0\4\0\1", b"\xff\xff\xff\xff"])
def test_what_is_no_message_ends_the_connection(asked: tuple[str, list[bytes]], head: bytes) -> None:
    path, reached = asked
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(head)
        assert connection.recv(1) == b""
    assert reached == []


def test_a_process_that_the_job_did_not_start_gets_nothing(asked: tuple[str, list[bytes]]) -> None:
    path, reached = asked
    # A child of the shell, whose parent has ended: init's, or a subreaper's.
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'\\0\\0\\0\\1\\x0b')"
    )
    script += "; print(s.recv(9))"
    orphan = f'sleep 0.2; exec {sys.executable} -c "$2" "$1" >"$1.said" 2>&1'
    subprocess.run(["sh", "-c", f"( {orphan} ) & exit 0", "sh", path, script], check=True)
    said = Path(f"{path}.said")
    deadline = time.monotonic() + 20
    while not (said.exists() and said.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert said.read_text() in ("b''\n",) or "Error" in said.read_text()
    assert reached == []
    said.unlink()
