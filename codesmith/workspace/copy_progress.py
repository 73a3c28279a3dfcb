"""How far a copy is: one line on a terminal, nothing anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

EVERY_S = 0.2
UNITS = ("B", "kB", "MB", "GB", "TB")


class CopyProgress:
    """Shows bytes, percent, rate and time left, from what rsync says or by its own count."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.is_shown = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.Lock()
        self._begun = self._shown_at = time.monotonic()
        self._total = self._done = 0

    def __enter__(self) -> CopyProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def expect(self, total: int) -> None:
        """Note how many bytes there are in all."""
        self._total = total

    def add(self, count: int) -> None:
        """Note bytes that were copied."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if not self.is_shown or now - self._shown_at < EVERY_S:
                return
        rate = self._done / max(now - self._begun, 0.001)
        left = max(self._total - self._done, 0) / rate if rate else 0
        percent = min(100 * self._done // self._total, 100) if self._total else 0
        self.show(self._done, percent, f"{size(rate)}/s", clock(left))

    def show(self, done: int, percent: int, rate: str, left: str) -> None:
        """Show how far it is, at most every EVERY_S."""
        now = time.monotonic()
        if not self.is_shown or now - self._shown_at < EVERY_S:
            return
        self._shown_at = now
        self._stream.write(f"\r\x1b[K{percent:3d} %  {size(done)}  {rate}  {left} left")
        self._stream.flush()


def size(count: float) -> str:
    """Return a number of bytes for people: 1.5 MB."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


def clock(seconds: float) -> str:
    """Return a time as rsync writes it: 0:01:30."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
