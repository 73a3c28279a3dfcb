"""Frames of streams and logs: one byte of type, four of length, then the payload. STREAMS.md describes them."""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Optional, Tuple, Union

INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, POSITION, REFUSAL = range(10)
HEADER = struct.Struct(">BI")
# What the client may send.
FROM_CLIENT = (INPUT, RESIZE, SIGNAL, PONG)
INPUT_MAX = 1 << 16
OUTPUT_MAX = 1 << 18
# What may be written on before the rest of it is there.
IN_PIECES = (INPUT, STDOUT, STDERR)
Frame = Tuple[int, memoryview]


class BadFrame(Exception):
    """What came is no frame of the protocol."""


class Parser:
    """Takes bytes as they come and gives frames. Input and output are given as they come, piece by piece, uncopied."""

    def __init__(self, known: Tuple[int, ...] = FROM_CLIENT, payload_max: int = INPUT_MAX) -> None:
        self._known, self._payload_max = known, payload_max
        self._data = memoryview(b"")
        # What is missing of a frame that is given in pieces.
        self._kind, self._left = 0, 0

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Take what came next."""
        self._data = memoryview(b"".join((self._data, data)) if self._data else data)

    def keep(self) -> None:
        """Copy what `next` has not given yet: the memory of what was added has another use now."""
        self._data = memoryview(bytes(self._data))

    def next(self) -> Optional[Frame]:
        """Return the next frame or piece; None when it is not there yet. BadFrame for an unknown or a longer one.

        Only a frame that has no payload gives an empty one.
        """
        if not self._left:
            if len(self._data) < HEADER.size:
                return None
            kind, size = HEADER.unpack_from(self._data)
            if kind not in self._known or size > self._payload_max:
                raise BadFrame(f"no frame of a stream: type {kind}, {size} bytes")
            if kind not in IN_PIECES or not size:
                end = HEADER.size + size
                return (kind, self._cut(HEADER.size, end)) if len(self._data) >= end else None
            self._kind, self._left = kind, size
            self._cut(0, HEADER.size)
        if not self._data:
            return None
        piece = self._cut(0, self._left)
        self._left -= len(piece)
        return self._kind, piece

    def _cut(self, begin: int, end: int) -> memoryview:
        found, self._data = self._data[begin:end], self._data[end:]
        return found


def header(kind: int, size: int) -> bytes:
    """Return what stands before a payload."""
    return HEADER.pack(kind, size)


def pack(kind: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind: int, document: Dict[str, Any]) -> bytes:
    """Return a frame whose payload is JSON."""
    return pack(kind, json.dumps(document, separators=(",", ":")).encode())
