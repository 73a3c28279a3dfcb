"""Outputs of a job: a long one keeps its beginning and its end, and is encoded as text or base64."""

from __future__ import annotations

import base64
import codecs
from typing import Tuple, Union

from agent.shared.errors import InvalidParams
from agent.supervisor.job import STDOUT, Sink

ENCODINGS = ("text", "base64")
HALF_BYTES = 1 << 19
CHARACTER_BYTES_MAX = 4


class Output:
    """One of a job's outputs. Its memory is bounded: two halves, and the chunk that is being added."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = bytearray(), bytearray(), 0

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Append a chunk; drop bytes from the middle when the output is longer than both halves."""
        self._size += len(data)
        room = HALF_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[:-HALF_BYTES]

    def text(self) -> str:
        """Return it for a message to people; bytes that are not UTF-8 are replaced."""
        return bytes(self._head + self._tail).decode("utf-8", "replace")

    def encode(self, encoding: str) -> Tuple[str, str, int]:
        """Return the output, its encoding (text or base64), and how many bytes are omitted from its middle.

        Bytes that are not UTF-8 are always base64. Text has whole characters on both sides of the omission.
        """
        if encoding == "text":
            try:
                return self._as_text()
            except UnicodeDecodeError:
                pass
        return base64.b64encode(self._head + self._tail).decode("ascii"), "base64", self._omitted_bytes()

    def _omitted_bytes(self) -> int:
        return self._size - len(self._head) - len(self._tail)

    def _as_text(self) -> Tuple[str, str, int]:
        if not self._omitted_bytes():
            return (self._head + self._tail).decode("utf-8"), "text", 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        head = decoder.decode(bytes(self._head))
        cut_left, cut_right = len(decoder.getstate()[0]), _continuation_bytes(self._tail)
        return head + self._tail[cut_right:].decode("utf-8"), "text", self._omitted_bytes() + cut_left + cut_right


def _continuation_bytes(data: bytearray) -> int:
    """Return how many bytes at the start belong to a character that began before them."""
    first = data[: CHARACTER_BYTES_MAX - 1]
    return next((at for at, byte in enumerate(first) if byte & 0xC0 != 0x80), len(first))


def parse_encoding(value: object) -> str:
    """Return `value` if it is an encoding; InvalidParams otherwise."""
    if value not in ENCODINGS:
        raise InvalidParams.of("encoding", f"must be one of {', '.join(ENCODINGS)}")
    return str(value)


def parse_input(value: object, encoding: str) -> bytes:
    """Return the bytes of a standard input in this encoding; InvalidParams otherwise."""
    if not isinstance(value, str):
        raise InvalidParams.of("stdin", "must be a string")
    try:
        return base64.b64decode(value, validate=True) if encoding == "base64" else value.encode()
    except ValueError:
        raise InvalidParams.of("stdin", f"must be {'base64' if encoding == 'base64' else 'text'}") from None


def encode_piece(data: bytes, *, is_last: bool, is_full: bool) -> Tuple[str, str, int]:
    """Return a piece of a log as text or base64, and how many bytes of it: text ends at a whole character.

    `is_last`: nothing follows; `is_full`: no more was asked for.
    """
    try:
        return data.decode("utf-8"), "text", len(data)
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data" and len(data) - error.start < CHARACTER_BYTES_MAX
        if is_cut and not is_last and (error.start or not is_full):
            return data[: error.start].decode("utf-8"), "text", error.start
    return base64.b64encode(data).decode("ascii"), "base64", len(data)


class Outputs(Sink):
    """Both outputs of a job whose caller gets them with its answer."""

    def __init__(self) -> None:
        self.stdout, self.stderr = Output(), Output()

    def add(self, stream: int, data: memoryview) -> None:
        """Take a chunk."""
        (self.stdout if stream == STDOUT else self.stderr).add(data)
