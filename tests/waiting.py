"""Waiting for what is to come about, and for processes to end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
LOOK_AGAIN_S = 0.02


def eventually(check: Callable[[], T], what: str = "", within_s: float = 15.0) -> T:
    """Return the first true value of `check`; fail, with `what`, if none comes in time."""
    deadline = time.monotonic() + within_s
    while not (value := check()):
        assert time.monotonic() < deadline, what or f"not within {within_s} s"
        time.sleep(LOOK_AGAIN_S)
    return value


def is_running(pid: int | str) -> bool:
    """Return whether the process, or any thread of it, still runs; a zombie nobody collected does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def accepts(path: Path | str) -> bool:
    """Tell whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except OSError:
            return False
        return True
