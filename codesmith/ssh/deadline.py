"""One time limit for everything that an attempt consists of."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
# What is left for a step that begins just before the end: an error of its own says more than "too late".
LEAST_S = 0.5
GRACE_S = 1.0


class Deadline:
    """Ends `timeout_s` after it was made; steps ask how much is left."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        """Return how much time the next step has."""
        return max(self._ends - time.monotonic(), LEAST_S)

    @contextlib.contextmanager
    def guard(self, end: Callable[[], None]) -> Iterator[threading.Event]:
        """Call `end`, and set the event, when a step goes on after its time.

        paramiko measures its own limits by the wall clock: where that is set back an hour, they are an hour longer.
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
        """Wait a little longer than the time before, by chance so that callers spread; False if there is no time."""
        pause_s = self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311 (spread, not secrecy)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if time.monotonic() + pause_s + LEAST_S > self._ends:
            return False
        time.sleep(pause_s)
        return True
