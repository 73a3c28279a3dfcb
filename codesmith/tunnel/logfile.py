"""The forwarder's log: one private file of limited size, which is also its standard output and error."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from pathlib import Path

MAX_BYTES = 256 * 1024


class LogFile(logging.Handler):
    """Writes lines to `path` (0600); at MAX_BYTES the content moves to `path.1`, and the file is emptied.

    It stays the same file, because it is the standard error of ProxyCommands that run for days.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
        self.formatter.converter = time.gmtime  # type: ignore[union-attr]
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a line break inside a message becomes ` | `."""
        text = self.format(record).replace("\n", " | ")
        # It may quote a node, so no control character may reach the terminal that shows this file.
        line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) + "\n"
        self.shorten()
        with contextlib.suppress(OSError):  # a full disk must not end the forwarder
            os.write(2, line.encode("utf-8", "backslashreplace"))

    def shorten(self) -> None:
        """Move the content to `path.1` if the file is too long; also called regularly, since others write into it."""
        self.acquire()
        try:
            size = os.fstat(2).st_size
            if size > MAX_BYTES:
                last = os.pread(2, MAX_BYTES, size - MAX_BYTES)
                os.ftruncate(2, 0)
                self._keep(last)
        except OSError:
            pass  # a log that cannot be shortened must not end the forwarder
        finally:
            self.release()

    def _keep(self, last: bytes) -> None:
        before = self._path.with_name(f"{self._path.name}.1")
        before.unlink(missing_ok=True)
        handle = os.open(before, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(last)
