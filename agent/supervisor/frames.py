"""Frames of streams and logs: one byte of type, four of length, then the payload. STREAMS.md describes them."""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Optional, Tuple

INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, POSITION, REFUSAL = range(10)
HEADER = struct.Struct(">BI")
# What the client may send.
FROM_CLIENT = (INPUT, RESIZE, SIGNAL, PONG)
INPUT_MAX = 1 << 16
OUTPUT_MAX = 1 << 18
Frame = Tuple[int, bytes]


class BadFrame(Exception):
    """What came is no frame of the protocol."""


class Parser:
    """Takes bytes as they come and gives whole frames; holds little more than one frame."""

    def __init__(self, known: Tuple[int, ...] = FROM_CLIENT, payload_max: int = INPUT_MAX) -> None:
        self._known, self._payload_max, self._data = known, payload_max, bytearray()

    def add(self, data: bytes) -> None:
        """Take what came next."""
        self._data += data

    def next(self) -> Optional[Frame]:
        """Return the next whole frame; None when it is not there yet. BadFrame for an unknown or a longer one."""
        if len(self._data) < HEADER.size:
            return None
        kind, size = HEADER.unpack_from(self._data)
        if kind not in self._known or size > self._payload_max:
            raise BadFrame(f"no frame of a stream: type {kind}, {size} bytes")
        end = HEADER.size + size
        if len(self._data) < end:
            return None
        payload = bytes(memoryview(self._data)[HEADER.size : end])
        del self._data[:end]
        return kind, payload


def header(kind: int, size: int) -> bytes:
    """Return what stands before a payload."""
    return HEADER.pack(kind, size)


def pack(kind: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind: int, document: Dict[str, Any]) -> bytes:
    """Return a frame whose payload is JSON."""
    return pack(kind, json.dumps(document, separators=(",", ":")).encode())
