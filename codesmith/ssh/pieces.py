"""What a channel has received and nobody has read yet, kept as the pieces that came.

paramiko keeps one array of it: with each read it moves all that is left, which is up to the whole window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import paramiko


class Pieces:
    """Bytes in pieces, with what paramiko's BufferedPipe uses of `array.array`: slices begin at the beginning."""

    def __init__(self, pieces: Iterable[memoryview] = ()) -> None:
        self._pieces = deque(pieces)
        self._size = sum(map(len, self._pieces))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, what: slice) -> Pieces:
        found, left = [], self._size if what.stop is None else what.stop
        for piece in self._pieces:
            if left <= 0:
                break
            found.append(piece[:left])
            left -= len(piece)
        return Pieces(found)

    def __delitem__(self, what: slice) -> None:
        left = self._size if what.stop is None else min(what.stop, self._size)
        self._size -= left
        while left:
            first = self._pieces.popleft()
            if left < len(first):
                self._pieces.appendleft(first[left:])
                return
            left -= len(first)

    def frombytes(self, data: bytes) -> None:
        """Append a piece, without copying it."""
        if data:
            self._pieces.append(memoryview(data))
            self._size += len(data)

    def tobytes(self) -> bytes:
        """Return all of it in one."""
        return b"".join(self._pieces)


def keep_pieces(channel: paramiko.Channel) -> None:
    """Have a channel keep what it receives in pieces; what it has received already stays."""
    pipe: Any = channel.in_buffer
    with pipe._lock:
        pieces = Pieces()
        pieces.frombytes(pipe._buffer.tobytes())
        pipe._buffer = pieces
