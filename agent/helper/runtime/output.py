"""What a job writes: of a long output the first and the last half are kept, and shown as text or as base64."""

from __future__ import annotations

import base64
import codecs
from typing import Tuple

from agent.shared.errors import InvalidParams

ENCODINGS = ("text", "base64")
HALF_BYTES = 1 << 19
CHARACTER_BYTES_MAX = 4


class Output:
    """One of a job's outputs, as it comes in; it never takes more memory than two halves and what just came."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """Take what came; from the middle of what is too long something goes."""
        self._size += len(data)
        room = HALF_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[:-HALF_BYTES]

    def text(self) -> str:
        """Return it for a message to people: what is no UTF-8 is replaced."""
        return bytes(self._head + self._tail).decode("utf-8", "replace")

    def shown(self, encoding: str) -> Tuple[str, str, int]:
        """Return it, what it is in (text or base64), and how many bytes are left out of its middle.

        What is no UTF-8 is base64 in any case. Text has whole characters on both sides of what is left out.
        """
        if encoding == "text":
            try:
                return self._as_text()
            except UnicodeDecodeError:
                pass
        return base64.b64encode(self._head + self._tail).decode("ascii"), "base64", self._omitted()

    def _omitted(self) -> int:
        return self._size - len(self._head) - len(self._tail)

    def _as_text(self) -> Tuple[str, str, int]:
        if not self._omitted():
            return (self._head + self._tail).decode("utf-8"), "text", 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        head = decoder.decode(bytes(self._head))
        half_left, half_right = len(decoder.getstate()[0]), _continued(self._tail)
        return head + self._tail[half_right:].decode("utf-8"), "text", self._omitted() + half_left + half_right


def _continued(data: bytearray) -> int:
    """Return how many bytes at the start belong to a character that began before."""
    first = data[: CHARACTER_BYTES_MAX - 1]
    return next((at for at, byte in enumerate(first) if byte & 0xC0 != 0x80), len(first))


def parse_encoding(value: object) -> str:
    """Return `value` if it is an encoding."""
    if value not in ENCODINGS:
        raise InvalidParams.of("encoding", f"must be one of {', '.join(ENCODINGS)}")
    return str(value)


def parse_input(value: object, encoding: str) -> bytes:
    """Return the bytes that a standard input in this encoding stands for."""
    if not isinstance(value, str):
        raise InvalidParams.of("stdin", "must be a string")
    try:
        return base64.b64decode(value, validate=True) if encoding == "base64" else value.encode()
    except ValueError:
        raise InvalidParams.of("stdin", f"must be {'base64' if encoding == 'base64' else 'text'}") from None
