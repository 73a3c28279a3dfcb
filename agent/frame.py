"""One message on the helper's socket: four bytes of length, then JSON. Front end and helper share it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Dict

REQUEST_MAX = 1 << 20
REPLY_MAX = 16 << 20


def send(connection: socket.socket, message: Dict[str, Any]) -> None:
    """Write one message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    connection.sendall(struct.pack(">I", len(body)) + body)


def receive(connection: socket.socket, size_max: int) -> Dict[str, Any]:
    """Read one message; ConnectionError when the other side stops early, sends too much, or no JSON object."""
    size = struct.unpack(">I", _exactly(connection, 4))[0]
    if size > size_max:
        raise ConnectionError(f"a message of {size} bytes is too long")
    try:
        message = json.loads(_exactly(connection, size))
    except ValueError as error:
        raise ConnectionError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ConnectionError("not a JSON object")
    return message


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(65536, size - len(data)))
        if not chunk:
            raise ConnectionError("the other side closed the connection")
        data += chunk
    return bytes(data)
