"""The end of a process that serves: what it has made is removed, also when a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Any

from codesmith.errors import Cancelled

# Ctrl-C, a client that does not wait, and a terminal that is closed.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending(ExitStack):
    """A stack that is closed at the end, also if one of ENDS is that; the others wait meanwhile.

    Outside the main thread, and where they are ignored, signals are left as they are.
    """

    def __enter__(self) -> Ending:
        self._is_serving = False
        is_main = threading.current_thread() is threading.main_thread()
        found = {number: signal.getsignal(number) for number in ENDS} if is_main else {}
        self._before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}
        self._handle(self._end)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool:
        self._handle(signal.SIG_IGN)
        try:
            return bool(super().__exit__(kind, error, trace))
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def serve(self, work: Callable[[], None]) -> None:
        """Do the work. A signal ends the process at once then: a thread that reads standard input is not waited for."""
        self._is_serving = True
        try:
            work()
        finally:
            self._is_serving = False

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self._handle(signal.SIG_IGN)
        is_cancelled = number == signal.SIGINT
        if not self._is_serving:  # what is under way here may hold what closing needs
            raise KeyboardInterrupt if is_cancelled else SystemExit(128 + number)
        try:
            self.close()
            if is_cancelled:
                sys.stderr.write("error: cancelled\n")
                sys.stderr.flush()
        finally:
            os._exit(Cancelled.exit_code if is_cancelled else 128 + number)

    def _handle(self, by: Any) -> None:
        for number in self._before:
            signal.signal(number, by)
