"""The stream of a job as any program can speak it: a request over the endpoint, then frames."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

PATIENCE_S = 60
INPUT, STDOUT, STDERR, END, PING, POSITION, REFUSAL = 0, 1, 2, 3, 6, 8, 9


class Framed:
    """One open stream."""

    def __init__(self, connection: socket.socket, token: str, *more: str, host: str = "node") -> None:
        self.connection = connection
        connection.settimeout(PATIENCE_S)
        lines = ["POST /stream HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: codesmith-stream", *more]
        connection.sendall("\r\n".join([*lines, f"CodeSmith-Token: {token}"]).encode() + b"\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1) or b"\r\n\r\n"
        self.status = int(head.split()[1])

    def __enter__(self) -> Framed:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.connection.sendall(struct.pack(">BI", kind, len(payload)) + payload)

    def frame(self) -> tuple[int, bytes]:
        """Return the next frame that is no ping."""
        while True:
            kind, size = struct.unpack(">BI", self._exactly(5))
            payload = self._exactly(size)
            if kind != PING:
                return kind, payload

    def until(self, text: bytes) -> None:
        """Read until this has come on standard output."""
        seen = b""
        while text not in seen:
            kind, payload = self.frame()
            assert kind in (STDOUT, POSITION), (kind, payload)
            seen += payload if kind == STDOUT else b""

    def end(self) -> dict[str, Any]:
        """Return how the job ended."""
        while True:
            kind, payload = self.frame()
            assert kind != REFUSAL, payload
            if kind == END:
                ended: dict[str, Any] = json.loads(payload)
                return ended

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.connection.recv(size - len(data)) or b"" or _ended(data)
        return data


def _ended(data: bytes) -> bytes:
    raise AssertionError(f"the stream ended after {data!r}")


def over_socket(path: object) -> socket.socket:
    """Return a connection to an endpoint."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection
