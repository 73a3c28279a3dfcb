"""A thread that is there only while there is something to do."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Worker:
    """Does `work` in a thread of its own whenever it is woken, never twice at the same time.

    The thread ends when `work` has returned and nobody has woken it meanwhile.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name, self._work = name, work
        self._lock = threading.Lock()
        self._is_woken = False
        self._thread: threading.Thread | None = None
        # Rings for a thread that waits; there while the thread is.
        self._bell: threading.Event | None = None

    @property
    def is_running(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None

    def wake(self) -> None:
        """Have the work done, once more if it is being done. Returns at once; does nothing if no thread is left."""
        with self._lock:
            self._is_woken = True
            if self._bell is not None:
                self._bell.set()
                return
            self._bell = threading.Event()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = self._bell = None

    def begin(self) -> None:
        """Note, in the work, that what it was woken for up to now is being done."""
        with self._lock:
            self._is_woken = False
            if self._bell is not None:
                self._bell.clear()

    def wait(self, seconds: float) -> None:
        """Wait, in the work, until it is woken; return at once if that happened since `begin`."""
        if self._bell is not None:
            self._bell.wait(seconds)

    def join(self, timeout_s: float) -> None:
        """Wait until its thread has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while self._goes_on():
                self.begin()
                self._work()
        except BaseException:
            with self._lock:  # the next wake starts another
                self._thread = self._bell = None
            raise

    def _goes_on(self) -> bool:
        """Return whether it was woken again; if not, the thread counts as ended from here on."""
        with self._lock:
            if not self._is_woken:
                self._thread = self._bell = None
            return self._is_woken
