"""Messages on the helper's socket: four bytes of length, then JSON. Used by the front end and the helper."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any, Dict, Optional, Tuple

REQUEST_MAX = 1 << 20
REPLY_MAX = 16 << 20


def send(connection: socket.socket, message: Dict[str, Any], descriptor: Optional[int] = None) -> None:
    """Write one message; a descriptor is sent with its length."""
    body = json.dumps(message, separators=(",", ":")).encode()
    length = struct.pack(">I", len(body))
    if descriptor is not None:
        socket.send_fds(connection, [length], [descriptor])
        connection.sendall(body)
    else:
        connection.sendall(length + body)


def receive(connection: socket.socket, size_max: int) -> Dict[str, Any]:
    """Read one message; ConnectionError when the peer stops early, sends too much or something other than an object."""
    return _receive(connection, _exactly(connection, 4), size_max)


def receive_with_descriptor(connection: socket.socket, size_max: int) -> Tuple[Dict[str, Any], Optional[int]]:
    """Read one message and the descriptor sent with it, if there is one; the caller closes it."""
    length, descriptors, _, _ = socket.recv_fds(connection, 4, 1)
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # recv_fds ignores MSG_CMSG_CLOEXEC
        message = _receive(connection, length + _exactly(connection, 4 - len(length)), size_max)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, descriptors[0] if descriptors else None


def _receive(connection: socket.socket, length: bytes, size_max: int) -> Dict[str, Any]:
    size = struct.unpack(">I", length)[0]
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
            raise ConnectionError("the peer closed the connection")
        data += chunk
    return bytes(data)
