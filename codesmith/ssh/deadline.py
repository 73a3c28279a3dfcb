"""One time limit for all steps of an attempt."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
# A step that begins just before the end still gets this long: its own error says more than "too late".
LEAST_S = 0.5
GRACE_S = 1.0


class Deadline:
    """Ends `timeout_s` after it was created; each step asks how much time is left."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        """Return how many seconds the next step has, at least LEAST_S."""
        return max(self._ends - time.monotonic(), LEAST_S)

    @contextlib.contextmanager
    def guard(self, end: Callable[[], None]) -> Iterator[threading.Event]:
        """Set the event and call `end` if the block is still running after the deadline.

        paramiko measures its own limits by the wall clock. If that is set back an hour, they become an hour longer.
        """
        late = threading.Event()

        def ring() -> None:
            late.set()
            with contextlib.suppress(OSError, EOFError):
                end()

        timer = threading.Timer(self.left_s() + GRACE_S, ring)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def pause(self) -> bool:
        """Wait about twice as long as the last time, with jitter; return False at once if there is no time for it."""
        pause_s = self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311 (jitter, no secret)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if time.monotonic() + pause_s + LEAST_S > self._ends:
            return False
        time.sleep(pause_s)
        return True
