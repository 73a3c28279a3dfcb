"""Ctrl-C before a task runs, as during the imports: one line and exit code 2. Imported before all else: it is small."""

from __future__ import annotations

import os
import signal
from typing import Any

CANCELLED = 2


def arm() -> None:
    """Let Ctrl-C end this process at once, until `disarm`; where it is ignored, as under nohup, it stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def disarm() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: from now on there is somebody who knows what it leaves."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: Any) -> None:
    # No exception: an import may catch it, and callbacks of the interpreter print it.
    try:
        os.write(2, b"error: cancelled\n")
    finally:
        os._exit(CANCELLED)
