"""Runs programs of this machine; the whole lab uses this function."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

# Debian's `su` keeps a PATH without the folders of `ip`.
PATH = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"


class ProgramFailed(Exception):
    """A program ended with an unexpected status, or did not end in time."""

    def __init__(self, argv: Sequence[str], end: str, stderr: str) -> None:
        self.argv, self.stderr = tuple(argv), stderr.strip()
        super().__init__(f"`{shlex.join(argv)}` {end}: {self.stderr or 'no output'}")


def environment() -> dict[str, str]:
    """Return this process's environment with sbin folders in PATH and messages in English."""
    return {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8"}


def run(*argv: str, check: bool = True, timeout_s: float = 120) -> str:
    """Run a program to its end and return its output; with `check` ProgramFailed unless it ends with 0."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env=environment(), check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ProgramFailed(argv, f"did not end within {timeout_s:.0f} s", "") from None
    if check and done.returncode:
        raise ProgramFailed(argv, f"ended with {done.returncode}", done.stderr)
    return done.stdout
