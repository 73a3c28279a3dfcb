"""A terminal for one program: what it shows, what is typed, and its size."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE_S = 30.0


class Terminal:
    """Runs a program on a terminal of its own. Use it as a context manager: the program ends with it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], *, rows: int, columns: int) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self._resize(rows, columns)
        words = ["setsid", "--ctty", "--wait", *argv]
        self.process = subprocess.Popen(words, env=dict(environment), stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)  # hangs up
        self.process.wait(PATIENCE_S)

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a person does with the mouse; the kernel tells the program."""
        self._resize(rows, columns)

    def mode(self) -> list[Any]:
        """Return how the terminal is set now, also after the program has ended."""
        return termios.tcgetattr(self._ours)

    @property
    def is_raw(self) -> bool:
        """Whether every key reaches the program as it is."""
        return not self.mode()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, pattern: str) -> str:
        """Return what matched, once the program has shown it; what was shown up to its end is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.shown!r}"
            if select.select([self._ours], [], [], 0.2)[0]:
                self._read()
        self.shown = self.shown[found.end() :]
        return found[0]

    def wait_for_end(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end: {self.shown!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self._read()
        return self.process.returncode

    def _read(self) -> None:
        try:
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # its end
            time.sleep(0.05)
