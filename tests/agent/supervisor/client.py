"""A client of streams: frames on a connection of its own, as a program with only the protocol would write it."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import struct
from types import TracebackType
from typing import Any

from tests.agent.supervisor.conftest import Supervisor

INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, POSITION, REFUSAL = range(10)


class Stream:
    """One stream: `send` and `receive` frames, or `rest` for all of them until the end."""

    def __init__(self, supervisor: Supervisor, request: str, **fields: Any) -> None:
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(20)
        with theirs:
            self.answer = supervisor.ask(request, theirs.fileno(), **fields)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.connection.close()

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.connection.sendall(struct.pack(">BI", kind, len(payload)) + payload)

    def receive(self) -> tuple[int, bytes]:
        kind, size = struct.unpack(">BI", self._exactly(5))
        return kind, self._exactly(size)

    def rest(self) -> tuple[bytes, bytes, dict[str, Any]]:
        """Return all of both outputs, and the end; nothing may follow it."""
        both = {STDOUT: bytearray(), STDERR: bytearray()}
        while True:
            kind, payload = self.receive()
            if kind in both:
                both[kind] += payload
            elif kind in (END, REFUSAL):
                assert self.connection.recv(1) == b""
                return bytes(both[STDOUT]), bytes(both[STDERR]), json.loads(payload)
            elif kind == PING:
                self._pong()

    def until(self, wanted: bytes) -> bytes:
        """Return the standard output until it has these bytes."""
        there = bytearray()
        while wanted not in there:
            kind, payload = self.receive()
            assert kind in (STDOUT, PING, POSITION), (kind, payload, bytes(there))
            there += payload if kind == STDOUT else b""
            if kind == PING:
                self._pong()
        return bytes(there)

    def _pong(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the end may be behind the ping
            self.send(PONG)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self.connection.recv(min(size - len(data), 1 << 18))
            assert chunk, f"the stream ended after {bytes(data)[-200:]!r}"
            data += chunk
        return bytes(data)


def command(*argv: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a request for a job."""
    return {
        "id": secrets.token_hex(6), "argv": list(argv), "cwd": "", "env": {}, "stdin": None, "tty": None, "name": None,
        "timeout_s": None, "by": "ann", **fields,
    }  # fmt: skip


def run(supervisor: Supervisor, *argv: str, **fields: Any) -> Stream:
    """Start a command that lives with its stream."""
    return Stream(supervisor, "run", **command(*argv, **fields))


def job(supervisor: Supervisor, *argv: str, **fields: Any) -> dict[str, Any]:
    """Start a job, and return its record."""
    answer = supervisor.ask("job_start", **command(*argv, **fields))
    assert "result" in answer, answer
    record: dict[str, Any] = answer["result"]["job"]
    return record


def ended(supervisor: Supervisor, identifier: str) -> dict[str, Any]:
    """Wait for a job's end, and return its record."""
    record: dict[str, Any] = supervisor.ask("job_wait", id=identifier, timeout_s=20)["result"]["job"]
    assert record["state"] != "running", record
    return record


def refusal(supervisor: Supervisor, request: str, **fields: Any) -> str:
    kind: str = supervisor.ask(request, **fields)["error"]["data"]["kind"]
    return kind
