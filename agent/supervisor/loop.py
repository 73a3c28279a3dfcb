"""One thread for everything: descriptors, ended children and deadlines, each with the function that it calls."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Callable, Dict, List, Optional, Tuple

Callback = Callable[[], object]
ENDED = select.EPOLLHUP | select.EPOLLERR


class Watch:
    """What is called for one descriptor: when it can be read, or written, or when its other side is gone."""

    def __init__(self) -> None:
        self.reader: Optional[Callback] = None
        self.writer: Optional[Callback] = None
        self.on_hangup: Optional[Callback] = None

    def events(self) -> int:
        """Return the events to wait for; the kernel adds the end of the other side."""
        ends = select.EPOLLRDHUP if self.on_hangup else 0
        return (select.EPOLLIN if self.reader else 0) | (select.EPOLLOUT if self.writer else 0) | ends

    def callbacks(self, events: int) -> List[Callback]:
        """Return what to call for these events."""
        if self.on_hangup and events & (ENDED | select.EPOLLRDHUP):
            return [self.on_hangup]
        if events & ENDED:
            # Reading or writing tells what has ended.
            return [callback for callback in (self.reader, self.writer) if callback][:1]
        ready = [self.reader if events & select.EPOLLIN else None, self.writer if events & select.EPOLLOUT else None]
        return [callback for callback in ready if callback]


class Loop:
    """Calls back when a descriptor is ready, a child has ended, or a time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._watches: Dict[int, Watch] = {}
        self._timers: Dict[int, Tuple[float, Callback]] = {}
        self._children: Dict[int, Callable[[int], None]] = {}
        self._next_timer = 0
        self._signals: Dict[int, Callback] = {}
        read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self.watch(read_end, lambda: self._take_signals(read_end))
        self.on_signal(signal.SIGCHLD, self._reap)

    def watch(self, descriptor: int, callback: Callback, *, writing: bool = False) -> None:
        """Call back whenever a descriptor can be read, or written; each has one callback."""
        watch = self._watch(descriptor)
        if writing:
            watch.writer = callback
        else:
            watch.reader = callback
        self._epoll.modify(descriptor, watch.events())

    def on_hangup(self, descriptor: int, callback: Callback) -> None:
        """Call back when the other side of a descriptor is gone, or sends no more; also while nothing is read."""
        watch = self._watch(descriptor)
        watch.on_hangup = callback
        self._epoll.modify(descriptor, watch.events())

    def pause(self, descriptor: int, *, writing: bool = False) -> None:
        """Do not call back any more when a descriptor can be read, or written; all else stays."""
        watch = self._watches.get(descriptor)
        if watch is None:
            return
        if writing:
            watch.writer = None
        else:
            watch.reader = None
        if watch.reader or watch.writer or watch.on_hangup:
            self._epoll.modify(descriptor, watch.events())
        else:
            self.unwatch(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Do not watch a descriptor any more; it is closed by who opened it."""
        if self._watches.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

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
        there = dict(self._watches)
        for descriptor, events in self._epoll.poll(timeout_s):
            watch = there.get(descriptor)
            for callback in watch.callbacks(events) if watch else ():
                # One callback may have closed what another would read.
                if self._watches.get(descriptor) is watch:
                    callback()
        now = time.monotonic()
        for timer, (time_, callback) in list(self._timers.items()):
            if time_ <= now and timer in self._timers:
                del self._timers[timer]
                callback()

    def _watch(self, descriptor: int) -> Watch:
        watch = self._watches.get(descriptor)
        if watch is None:
            self._epoll.register(descriptor, 0)
            watch = self._watches[descriptor] = Watch()
        return watch

    def _take_signals(self, descriptor: int) -> None:
        # SIGTERM first: what ends by it was ended by who stopped the workspace.
        for number in sorted(set(os.read(descriptor, 4096))):
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
