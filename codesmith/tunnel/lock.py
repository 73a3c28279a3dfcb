"""A lock file for one process at a time; it contains the pid of the process that holds the lock."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from codesmith.paths import writing

POLL_S = 0.05


class Held(Exception):
    """Another process, `pid`, held the lock for the whole wait."""

    def __init__(self, pid: str) -> None:
        self.pid = pid
        super().__init__(f"held by process {pid}")


def hold(path: Path, within_s: float) -> int:
    """Return a descriptor that holds the lock until it is closed or this process ends; Held after `within_s`."""
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + within_s
    try:
        while not _is_locked(handle):
            if time.monotonic() > deadline:
                raise Held(os.pread(handle, 32, 0).decode(errors="replace").strip() or "PID")
            time.sleep(POLL_S)  # flock has no time limit of its own
        with writing(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
