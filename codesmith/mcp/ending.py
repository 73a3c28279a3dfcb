"""The end of a process that serves: what it has made is removed, also when a signal ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

# Ctrl-C, a client that does not wait, and a terminal that is closed.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def removed_at_the_end() -> Iterator[ExitStack]:
    """Give a stack that is closed at the end, or by one of ENDS, which ends the process with 128 + its number.

    It ends at once, because a thread that reads standard input cannot be interrupted. Once the stack is being closed,
    signals wait for that. In a thread other than the main one, signals are left as they are.
    """
    stack = ExitStack()

    def end(number: int, _frame: FrameType | None) -> None:
        handle(signal.SIG_IGN)
        try:
            stack.close()
        finally:
            os._exit(128 + number)

    def handle(by: object) -> None:
        for number in before:
            signal.signal(number, by)  # type: ignore[arg-type]

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in ENDS} if is_main else {}
    handle(end)
    try:
        yield stack
    finally:
        handle(signal.SIG_IGN)
        stack.close()
        for number, handler in before.items():
            signal.signal(number, handler)
