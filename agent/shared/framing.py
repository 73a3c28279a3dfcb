"""Messages on the helper's socket: four bytes of length, then JSON. Used by the front end and the helper."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any, Dict, NoReturn, Optional, Tuple

from agent.shared.nesting import check_count, check_depth

REQUEST_MAX = 1 << 20
REPLY_MAX = 16 << 20
# The values of a message: as many as fit into the longest, unless the peer would send them to do harm.
COUNT_MAX = REPLY_MAX
# Longer numbers take quadratic time before Python 3.11.
DIGITS_MAX = 64


def send(connection: socket.socket, message: Dict[str, Any], descriptor: Optional[int] = None) -> None:
    """Write one message; a descriptor is sent with its length."""
    body = json.dumps(message, separators=(",", ":")).encode()
    length = struct.pack(">I", len(body))
    if descriptor is not None:
        socket.send_fds(connection, [length], [descriptor])
        connection.sendall(body)
    else:
        connection.sendall(length + body)


def receive(
    connection: socket.socket, size_max: int, deadline: Optional[float] = None, count_max: int = COUNT_MAX
) -> Dict[str, Any]:
    """Read one message; ConnectionError when the peer stops early, sends too much or something other than an object.

    TimeoutError when it is not there at `deadline` (of time.monotonic()), however often a byte comes.
    """
    return _receive(connection, _exactly(connection, 4, deadline), size_max, deadline, count_max)


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


def _receive(
    connection: socket.socket, length: bytes, size_max: int, deadline: Optional[float] = None,
    count_max: int = COUNT_MAX,
) -> Dict[str, Any]:  # fmt: skip
    size = struct.unpack(">I", length)[0]
    if size > size_max:
        raise ConnectionError(f"a message of {size} bytes is too long")
    return parse(_exactly(connection, size, deadline), count_max)


def parse(body: bytes, count_max: int = COUNT_MAX) -> Dict[str, Any]:
    """Return the message that this is the text of; ConnectionError when it is none, or has too many values."""
    try:
        check_count(body, count_max)
        check_depth(body)
        message = _DECODER.decode(body.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise ConnectionError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ConnectionError("not a JSON object")
    return message


def _parse_integer(text: str) -> int:
    return int(text) if len(text) <= DIGITS_MAX else _refuse("a number this long")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what} is not accepted")


_DECODER = json.JSONDecoder(parse_int=_parse_integer, parse_constant=_refuse)


def _exactly(connection: socket.socket, size: int, deadline: Optional[float] = None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the message took too long")
            connection.settimeout(left_s)
        chunk = connection.recv(min(65536, size - len(data)))
        if not chunk:
            raise ConnectionError("the peer closed the connection")
        data += chunk
    return bytes(data)
