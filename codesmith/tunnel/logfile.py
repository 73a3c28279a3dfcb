"""The forwarder's log: one private file of bounded size that also takes standard output and error."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

MAX_BYTES = 256 * 1024


class LogFile(logging.Handler):
    """Writes lines to `path` (0600); at MAX_BYTES the file becomes `path.1` and a new one begins."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
        self.formatter.converter = time.gmtime  # type: ignore[union-attr]
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a line break inside a message cannot start a second one."""
        text = self.format(record).replace("\n", " | ")
        # What a node says may be in it: nothing of that may steer the terminal that shows this file.
        line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) + "\n"
        try:
            if os.fstat(2).st_size > MAX_BYTES:
                self._open()
            os.write(2, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not end the forwarder

    def _open(self) -> None:
        if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
