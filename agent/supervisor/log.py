"""The log of a kept job: its outputs as frames, in segments, of which the first and the last ones are kept.

The name of a segment tells where it begins: in the job's whole output, and in its standard output. So every place
is known without an index, also after a loss of power, and where bytes are missing.
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import Callable, Iterator, List, NamedTuple, Optional, Union

from agent.supervisor.frames import HEADER, OUTPUT_MAX, STDERR, STDOUT

BOTH = 0
STREAMS = {"both": BOTH, "stdout": STDOUT, "stderr": STDERR}
SEGMENT_BYTES = 1 << 18
# The first 1 MiB and the last 8 MiB.
FIRST, LAST = 4, 32
NAME = re.compile(r"log-(\d{15})-(\d{15})")
# A log that cannot be written is tried again so often.
RETRY_S = 1.0
LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Segment:
    """One file of a log: where it begins, and how long it is."""

    def __init__(self, start: int, stdout: int, size: int = 0) -> None:
        self.starts = {BOTH: start, STDOUT: stdout, STDERR: start - stdout}
        self.size = size

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"log-{self.starts[BOTH]:015}-{self.starts[STDOUT]:015}"


class Piece(NamedTuple):
    """Bytes of one output, and their offset in what was read."""

    offset: int
    stream: int
    data: bytes


class Log:
    """The log of one job. Its folder is the login's, which may do to it what it wants: then bytes are missing."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # How much room it takes; and what is called when it has begun another segment.
        self.size_bytes = 0
        self.on_growth: Callable[[], object] = lambda: None
        self.totals = {BOTH: 0, STDOUT: 0, STDERR: 0}
        self.segments: List[Segment] = []
        # Of the segment that is written: its descriptor, and type, place and size of its last frame.
        self._file, self._kind, self._at, self._length = -1, 0, 0, 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is written."""
        return self._file >= 0

    def add(self, stream: int, data: memoryview) -> None:
        """Append what a job wrote; what cannot be written is left out."""
        while data:
            if self._file < 0 or not self._room():
                self._begin_segment()
            part = data[: self._room()] if self._file >= 0 else data
            if self._file >= 0:
                self._write(stream, part)
            self.totals[BOTH] += len(part)
            self.totals[stream] += len(part)
            data = data[len(part) :]

    def close(self) -> None:
        """Write no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def drop(self, segment: Segment) -> None:
        """Remove a segment."""
        self.segments.remove(segment)
        self.size_bytes -= segment.size
        try:
            os.unlink(self.path(segment))
        except OSError:
            pass

    def droppable(self) -> Optional[Segment]:
        """Return the segment that can be missed first, if there is one: the oldest after the beginning."""
        return self.segments[FIRST] if len(self.segments) > FIRST + 1 else None

    def load(self) -> None:
        """Find the segments that an earlier supervisor has written."""
        for name in sorted(os.listdir(self._folder)):
            match = NAME.fullmatch(name)
            if match is None or len(self.segments) > FIRST + LAST:
                continue
            segment = Segment(int(match.group(1)), int(match.group(2)))
            try:
                state = os.lstat(self.path(segment))
            except OSError:
                continue
            if stat.S_ISREG(state.st_mode) and state.st_size <= 3 * SEGMENT_BYTES:
                segment.size = state.st_size
                self.size_bytes += segment.size
                self.segments.append(segment)

    def count_last_segment(self) -> None:
        """Take what is in the last segment as the end, when nobody has written down where it is."""
        if self.segments:
            last = self.segments[-1]
            self.totals.update(last.starts)
            for stream in (STDOUT, STDERR):
                for piece in Cursor(self, last.starts[stream], stream).pieces(1 << 62):
                    self.totals[stream] += len(piece.data)
            self.totals[BOTH] = self.totals[STDOUT] + self.totals[STDERR]

    def path(self, segment: Segment) -> str:
        """Return the file of a segment."""
        return f"{self._folder}/{segment.name}"

    def _room(self) -> int:
        """Return how many bytes the last segment still takes; small frames make it end earlier."""
        segment = self.segments[-1]
        is_long = segment.size >= SEGMENT_BYTES * 3 // 2
        return 0 if is_long else segment.starts[BOTH] + SEGMENT_BYTES - self.totals[BOTH]

    def _begin_segment(self) -> None:
        self.close()
        if time.monotonic() < self._retry_at:
            return
        segment = Segment(self.totals[BOTH], self.totals[STDOUT])
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self.path(segment), flags, 0o600)
        except OSError:
            self._retry_at = time.monotonic() + RETRY_S
            return
        self.segments.append(segment)
        self._kind = self._length = 0
        if len(self.segments) > FIRST + LAST + 1:
            self.drop(self.segments[FIRST])
        self.on_growth()

    def _write(self, stream: int, data: memoryview) -> None:
        """Write a frame, or make the last one longer: its length first, so that what is there is always readable."""
        segment = self.segments[-1]
        is_longer = stream == self._kind and self._length + len(data) <= OUTPUT_MAX
        try:
            if is_longer:
                os.pwrite(self._file, HEADER.pack(stream, self._length + len(data)), self._at)
                wanted, written = len(data), os.pwritev(self._file, [data], segment.size)
            else:
                parts: List[Union[bytes, memoryview]] = [HEADER.pack(stream, len(data)), data]
                wanted, written = HEADER.size + len(data), os.pwritev(self._file, parts, segment.size)
        except OSError:
            wanted, written = 1, 0
        if written == wanted:
            self._kind, self._at = stream, self._at if is_longer else segment.size
            self._length = self._length + len(data) if is_longer else len(data)
            segment.size += written
            self.size_bytes += written
            return
        # No room: this segment ends with what was whole before, and the next one begins behind what is lost.
        try:
            os.ftruncate(self._file, segment.size)
            if is_longer:
                os.pwrite(self._file, HEADER.pack(stream, self._length), self._at)
        except OSError:
            pass
        if not segment.size:
            self.drop(segment)
        self.close()
        self._retry_at = time.monotonic() + RETRY_S


class Cursor:
    """Reads a log from an offset on: of both outputs in their order, or of one of them."""

    def __init__(self, log: Log, offset: int, stream: int = BOTH) -> None:
        self._log, self.offset, self._stream = log, offset, stream
        self._segment: Optional[Segment] = None
        self._place = self._at = 0

    def next(self, limit: int) -> Optional[Piece]:
        """Return the next piece, of at most `limit` bytes; its offset tells what is missing. None at the end."""
        while self._find_segment():
            piece = self._read(limit)
            if piece is not None:
                self.offset = piece.offset + len(piece.data)
                return piece
            if self._segment is self._log.segments[-1]:
                return None
            self._begin(self._log.segments[self._log.segments.index(self._segment) + 1])  # type: ignore[arg-type]
        return None

    def pieces(self, limit: int) -> Iterator[Piece]:
        """Yield pieces without a gap between them, of at most `limit` bytes together."""
        begun = False
        while limit > 0:
            before = (self.offset, self._segment, self._place, self._at)
            piece = self.next(min(limit, OUTPUT_MAX))
            if piece is None:
                return
            if begun and piece.offset != before[0]:
                self.offset, self._segment, self._place, self._at = before
                return
            begun, limit = True, limit - len(piece.data)
            yield piece

    def _find_segment(self) -> bool:
        if self._segment is None or self._segment not in self._log.segments:
            segments = self._log.segments
            if not segments:
                return False
            before = [segment for segment in segments if segment.starts[self._stream] <= self.offset]
            self._begin(before[-1] if before else segments[0])
        return True

    def _begin(self, segment: Segment) -> None:
        self._segment, self._place, self._at = segment, 0, segment.starts[self._stream]

    def _read(self, limit: int) -> Optional[Piece]:
        segment = self._segment
        if segment is None or self._place + HEADER.size > segment.size:
            return None
        try:
            file = os.open(self._log.path(segment), LOOK)
        except OSError:
            return None
        try:
            return self._walk(file, segment, limit) if stat.S_ISREG(os.fstat(file).st_mode) else None
        except OSError:
            return None
        finally:
            os.close(file)

    def _walk(self, file: int, segment: Segment, limit: int) -> Optional[Piece]:
        while self._place + HEADER.size <= segment.size:
            head = os.pread(file, HEADER.size, self._place)
            if len(head) < HEADER.size:
                return None
            kind, size = HEADER.unpack(head)
            if kind not in (STDOUT, STDERR):
                return None
            body = self._place + HEADER.size
            there = min(size, segment.size - body)
            own = self._stream in (BOTH, kind)
            if own and self.offset < self._at + there:
                begin = max(self.offset - self._at, 0)
                data = os.pread(file, min(limit, there - begin), body + begin)
                return Piece(self._at + begin, kind, data) if data else None
            if body + there >= segment.size:
                return None  # the last frame may become longer
            self._place, self._at = body + size, self._at + (size if own else 0)
        return None


def read(log: Log, stream: int, offset: int, limit: int) -> Piece:
    """Return the data from an offset on, without a gap in it; nothing at the end of the log."""
    pieces = list(Cursor(log, offset, stream).pieces(limit))
    begin = pieces[0].offset if pieces else log.totals[stream]
    return Piece(begin, stream, b"".join(piece.data for piece in pieces))
