"""`agent.pyz egress FOLDER` as a process: its socket, its end, its limit of descriptors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.egress.conftest import HINT, Peer, head_of
from tests.waiting import eventually

TOP = Path(__file__).parents[3]
# What systemd does: the socket as descriptor 3.
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from agent.main import main; sys.exit(main(['egress', sys.argv[2]]))"
)
# The same with loopback allowed, where the servers of tests are.
ALLOWING = """
import sys; sys.path.insert(0, sys.argv[1])
from agent.egress import main, server
main.PolicyFile = lambda folder: server.PolicyFile(folder, lambda address: False)
main.main(sys.argv[2])
"""


class Program:
    def __init__(self, folder: Path, code: str, *, descriptors: int = 0) -> None:
        policy = {
            "workspace": "demo",
            "mode": "list",
            "allow": ["127.0.0.0/8:*", "localhost:*"],
            "deny": [],
            "hint": HINT,
        }
        (folder / "policy.json").write_text(json.dumps(policy))
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
            self.port = listening.getsockname()[1]
            limit = f"ulimit -n {descriptors};" if descriptors else ""
            script = f'{limit} LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{listening.fileno()}'
            self.process = subprocess.Popen(
                ["bash", "-c", script, "sh", sys.executable, "-I", "-S", "-c", code, TOP, folder],
                pass_fds=[listening.fileno()], env={"RUNTIME_DIRECTORY": str(folder)}, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def connect(self, target: str) -> tuple[int, socket.socket]:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        return int(head_of(connection).split()[1]), connection

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    there: list[Program] = []
    yield there
    for program in there:
        program.end(signal.SIGKILL)


def test_the_program_refuses_loopback_and_writes_what_it_denied_at_its_end(
    tmp_path: Path, programs: list[Program]
) -> None:
    programs.append(Program(tmp_path, START))
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            status, connection = programs[0].connect(f"{host}:{server.getsockname()[1]}")
            connection.close()
            assert status == 403
    assert programs[0].end(signal.SIGTERM) == 0
    denied = json.loads((tmp_path / "denied.json").read_text())
    assert [one["host"] for one in denied] == ["127.0.0.1", "localhost"]


def test_when_the_program_dies_its_connections_end(tmp_path: Path, programs: list[Program], echoing: Peer) -> None:
    programs.append(Program(tmp_path, ALLOWING))
    status, connection = programs[0].connect(f"127.0.0.1:{echoing.port}")
    assert status == 200
    programs[0].end(signal.SIGKILL)
    assert connection.recv(1) == b""
    connection.close()
    assert eventually(lambda: echoing.connections[0].fileno() == -1)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", programs[0].port))


def test_without_descriptors_accepting_waits_and_goes_on(
    tmp_path: Path, programs: list[Program], echoing: Peer
) -> None:
    """Some are taken by what is no connection: the process has fewer than it counted on."""
    hoarding = ALLOWING.replace(
        "main.main(", "import os; main.connections_max(); [os.dup(0) for _ in range(66)]; main.main("
    )
    programs.append(Program(tmp_path, hoarding, descriptors=84))
    held = [programs[0].connect(f"127.0.0.1:{echoing.port}") for _ in range(2)]
    assert [status for status, _ in held] == [200, 200]
    waiting = [socket.create_connection(("127.0.0.1", programs[0].port), timeout=20) for _ in range(12)]
    for connection in waiting:
        connection.sendall(f"CONNECT 127.0.0.1:{echoing.port} HTTP/1.1\r\n\r\n".encode())
    eventually(lambda: len(os.listdir(f"/proc/{programs[0].process.pid}/fd")) >= 83)
    for _, connection in held:
        connection.close()
    for connection in waiting:
        assert connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 502")
        connection.close()
