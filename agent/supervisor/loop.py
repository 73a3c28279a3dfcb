"""One thread for everything: descriptors, ended children and deadlines, each with the function that it calls."""

from __future__ import annotations

import os
import selectors
import signal
import time
from typing import Callable, Dict, List, Tuple

Callback = Callable[[], object]


class Loop:
    """Calls back when a descriptor is ready, a child has ended, or a time has come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: Dict[int, Tuple[float, Callback]] = {}
        self._children: Dict[int, Callable[[int], None]] = {}
        self._next_timer = 0
        self._signals: Dict[int, Callback] = {}
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self.watch(read_end, lambda: self._take_signals(read_end))
        self.on_signal(signal.SIGCHLD, self._reap)

    def watch(self, descriptor: int, callback: Callback, *, writing: bool = False) -> None:
        """Call back whenever a descriptor can be read, or written."""
        self._selector.register(descriptor, selectors.EVENT_WRITE if writing else selectors.EVENT_READ, callback)

    def unwatch(self, descriptor: int) -> None:
        """Do not watch a descriptor any more; it is closed by who opened it."""
        try:
            self._selector.unregister(descriptor)
        except KeyError:
            pass

    def at(self, time_: float, callback: Callback) -> int:
        """Call back once at a time of time.monotonic(); return what `cancel` takes."""
        self._next_timer += 1
        self._timers[self._next_timer] = (time_, callback)
        return self._next_timer

    def cancel(self, timer: int) -> None:
        """Forget a timer, if it has not called back yet."""
        self._timers.pop(timer, None)

    def on_exit(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back with the wait status when a child has ended."""
        self._children[pid] = callback

    def on_signal(self, number: int, callback: Callback) -> None:
        """Call back after a signal, outside of its handler."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)

    def leaders(self) -> List[int]:
        """Return the children that somebody waits for."""
        return list(self._children)

    def step(self) -> None:
        """Wait for the next event and call back for all that are there."""
        next_time = min((time_ for time_, _ in self._timers.values()), default=None)
        timeout_s = None if next_time is None else max(next_time - time.monotonic(), 0)
        for key, _ in self._selector.select(timeout_s):
            # One callback may have closed what another would read.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        for timer, (time_, callback) in list(self._timers.items()):
            if time_ <= now and timer in self._timers:
                del self._timers[timer]
                callback()

    def _take_signals(self, descriptor: int) -> None:
        for number in set(os.read(descriptor, 4096)):
            callback = self._signals.get(number)
            if callback is not None:
                callback()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            callback = self._children.pop(pid, None)
            if callback is not None:
                callback(status)
