"""A client of POST /stream, as a program with only the protocol would write it."""

from __future__ import annotations

import socket

import pytest

from agent.frontend import stream
from tests.agent.conftest import Rpc

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIuGpN3yNLEY6w4XWQDo5tVH0sg6O3oMyJ2nRZbZ2q5"
BANNER = b"SSH-2.0-StandIn\r\n"


def head_of(token: str, *more: str, upgrade: str = stream.PROTOCOL, connection: str = "Upgrade") -> bytes:
    lines = ["POST /stream HTTP/1.1", "Host: n", f"Connection: {connection}", f"Upgrade: {upgrade}"]
    return "\r\n".join([*lines, f"CodeSmith-Token: {token}", *more]).encode() + b"\r\n\r\n"


def answer_of(connection: socket.socket) -> int:
    """Read the head of an answer, and no byte more; return its status."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, data
        data += byte
    return int(data.split()[1])


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data)) or pytest.fail(f"ended after {data!r}")
    return data


def open_stream(rpc: Rpc, token: str, *more: str, **words: str) -> tuple[socket.socket, int]:
    connection = rpc.connect()
    connection.sendall(head_of(token, *more, **words))
    return connection, answer_of(connection)
