"""Wait for a file's lock with a deadline, which neither flock nor lockf has."""

from __future__ import annotations

import time
from typing import Any, Callable

PAUSE_S = 0.01


def wait_for(lock: Callable[[], Any], wait_s: float) -> bool:
    """Call `lock`, which does not block, until it succeeds; False if it did not within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lock()
        except (BlockingIOError, PermissionError):  # lockf says either
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        else:
            return True
