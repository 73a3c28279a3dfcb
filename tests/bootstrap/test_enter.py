"""`enter` between sshd and a workspace: whoever is inside may be hostile, and no limit holds for `enter` itself."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from codesmith.bootstrap.on_node import enter

PROGRAM = """
import sys
from codesmith.bootstrap.on_node import enter
enter.DOOR = sys.argv.pop()
enter.main()
"""
PINGS_BYTES = 12 << 20
ROOM_KIB = 6 << 10


class Session(NamedTuple):
    """`enter` as sshd runs it, and the connection that leads into a workspace."""

    process: subprocess.Popen[bytes]
    inside: socket.socket

    def peak_kib(self) -> int:
        """Return the most memory that it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])

    def ends(self, payload: bytes) -> int:
        self.inside.sendall(struct.pack(">BI", enter.END, len(payload)) + payload)
        return self.process.wait(60)


@pytest.fixture
def session() -> Iterator[Session]:
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="cs-") as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/s")
        door.listen()
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        argv = [sys.executable, "-c", PROGRAM, f"{folder}/s"]
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
            connection, _ = door.accept()
            with connection:
                (count,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
                assert json.loads(connection.recv(count, socket.MSG_WAITALL))["protocol"] == enter.PROTOCOL
                body = json.dumps({"stream": "frames"}).encode()
                connection.sendall(struct.pack(">I", len(body)) + body)
                try:
                    yield Session(process, connection)
                finally:
                    process.kill()


@pytest.mark.slow
def test_who_asks_and_reads_no_answer_takes_no_memory_outside(session: Session) -> None:
    ping = struct.pack(">BI", enter.PING, 0)
    session.inside.sendall(ping)
    assert session.inside.recv(5, socket.MSG_WAITALL)[:1] == bytes([enter.PONG])
    before = session.peak_kib()
    session.inside.sendall(ping * (PINGS_BYTES // len(ping)))
    session.inside.sendall(struct.pack(">BI", enter.STDOUT, 3) + b"up\n")
    assert session.process.stdout and session.process.stdout.readline() == b"up\n"
    assert session.peak_kib() - before < ROOM_KIB
    assert session.ends(b'{"exit_code": 7, "killed_by": null}') == 7


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"exit_code": 1e999, "killed_by": null}', b"7", b"{}", b"\xff"])
def test_an_end_that_is_none_is_said_to_be_so(session: Session, payload: bytes) -> None:
    assert session.ends(payload) == enter.FAILED
    assert (
        session.process.stderr
        and session.process.stderr.read() == b"codesmith: the workspace sends what is no stream\n"
    )
