"""What an ssh master says, from its first line to its end: it writes into a pipe of ours and fills no disk."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

LINES_MAX = 400
LINE_MAX_BYTES = 1 << 14


class Log:
    """Reads what is written to the pipe at `path`, and keeps its last lines; `on_end` is told when nobody writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        # Before there is a writer: a pipe that nobody reads would keep ssh waiting.
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self.on_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="ssh log", daemon=True)
        self._thread.start()

    def close_writer(self) -> None:
        """Leave the writing to ssh."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def lines(self) -> list[str]:
        """Return what was said, debugging included."""
        return list(self._lines)

    def join(self, timeout_s: float) -> None:
        """Wait until all is read."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        rest = b""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        try:
            while True:
                poll.poll()
                chunk = os.read(self._reader, 65536)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                self._lines.extend(_text(line) for line in lines)
                rest = rest[-LINE_MAX_BYTES:]
        finally:
            os.close(self._reader)
        if rest:
            self._lines.append(_text(rest))
        self.on_end()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
