"""The log of an ssh master, from its first line to its end. ssh writes it into a pipe, so it fills no disk."""

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
    """Reads the pipe at `path` and keeps the last lines; calls `on_end` when its last writer has closed it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        # The reader comes first: without one, opening the pipe would block ssh.
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self.on_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="ssh log", daemon=True)
        self._thread.start()

    def close_writer(self) -> None:
        """Close this process's writer, so that the log ends with ssh."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def lines(self) -> list[str]:
        """Return the lines so far, debugging included."""
        return list(self._lines)

    def join(self, timeout_s: float) -> None:
        """Wait until the log has ended and everything is read."""
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
                self._lines.extend(_decoded(line) for line in lines)
                rest = rest[-LINE_MAX_BYTES:]
        finally:
            os.close(self._reader)
        if rest:
            self._lines.append(_decoded(rest))
        self.on_end()


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
