"""Lock files: opening one, and waiting for it with a deadline, which flock and lockf do not have."""

from __future__ import annotations

import os
import time
from typing import Any, Callable

from agent.shared.errors import CommandFailed
from agent.shared.os_errors import NO_ROOM

PAUSE_S = 0.01


def open_lock(path: str) -> int:
    """Open a lock file, created if missing, and return its descriptor; CommandFailed when it cannot be opened."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        problem = f"the helper's lock file {path} cannot be opened: {error.strerror}"
        hint = f"on the node: ls -ld {path}; lsattr -d {path}; rm -r {path} (it is created again)"
        raise CommandFailed(problem, hint=hint, command="open", exit_code=error.errno, stderr=problem) from None


def wait_for(lock: Callable[[], Any], wait_s: float) -> bool:
    """Call `lock`, which does not block, until it succeeds; False after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lock()
        except (BlockingIOError, PermissionError):  # lockf raises either
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        else:
            return True
