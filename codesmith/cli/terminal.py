"""The operator's terminal, lent to a program elsewhere: raw while it runs there, and always restored."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

# The size of a terminal that does not know its own, or of one there without one here.
ROWS, COLS = 24, 80


def descriptor_of(stream: TextIO | None) -> int | None:
    """Return the descriptor of a standard stream; None if it has none, as when a Python caller replaced it."""
    try:
        return None if stream is None else stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def is_terminal(descriptor: int | None) -> bool:
    """Tell whether a descriptor is a terminal."""
    return descriptor is not None and os.isatty(descriptor)


def is_interactive() -> bool:
    """Tell whether somebody types at this process's terminal and reads what it writes."""
    return is_terminal(descriptor_of(sys.stdin)) and is_terminal(descriptor_of(sys.stdout))


def is_foreground(descriptor: int) -> bool:
    """Tell whether what is typed at a terminal is for this process; OSError if it is none."""
    return os.tcgetpgrp(descriptor) == os.getpgrp()


def kind() -> str:
    """Return the type of the terminal, for TERM there."""
    return os.environ.get("TERM") or "dumb"


def size() -> tuple[int, int]:
    """Return the rows and columns of the terminal."""
    for stream in (sys.stdout, sys.stdin, sys.stderr):
        descriptor = descriptor_of(stream)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                cols, rows = os.get_terminal_size(descriptor)
                return rows or ROWS, cols or COLS
    return ROWS, COLS


class RawTerminal:
    """Puts the terminal into raw mode while its block lasts; `on_resize` is called when its size may have changed.

    With `keeps_signals` Ctrl-C and Ctrl-Z stay what they are, and only the other keys come one by one, unseen.

    It is restored however the process ends, but for SIGKILL: by an error, a signal, at its exit. A stop by SIGTSTP
    gives it back too, and `fg` makes it raw again.
    """

    def __init__(self, on_resize: Callable[[int, int], None], *, keeps_signals: bool = False) -> None:
        self._on_resize, self._set = on_resize, tty.setcbreak if keeps_signals else tty.setraw
        self._descriptor = sys.stdin.fileno()
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self._descriptor)
        atexit.register(self._restore)
        for number, handler in {
            signal.SIGTERM: self._end, signal.SIGHUP: self._end, signal.SIGTSTP: self._stop,
            signal.SIGCONT: self._go_on, signal.SIGWINCH: self._resized,
        }.items():  # fmt: skip
            with contextlib.suppress(ValueError):  # not the main thread of a Python caller
                self._handlers[number] = signal.signal(number, handler)
        self._enter_raw()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        atexit.unregister(self._restore)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does; returns when it goes on, with the terminal raw again."""
        os.kill(os.getpid(), signal.SIGTSTP)

    def _enter_raw(self) -> None:
        self._set(self._descriptor, termios.TCSADRAIN)

    def _restore(self) -> None:
        with contextlib.suppress(termios.error):  # it is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _end(self, number: int, _: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, _number: int, _: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self, _number: int, _: FrameType | None) -> None:
        # `bg` has given the terminal to the shell.
        with contextlib.suppress(OSError):
            if is_foreground(self._descriptor):
                self._enter_raw()
                self._on_resize(*size())

    def _resized(self, _number: int, _: FrameType | None) -> None:
        self._on_resize(*size())


@contextlib.contextmanager
def interrupts(first: Callable[[], None], wake_on: Callable[[int | None], None]) -> Iterator[None]:
    """While the block lasts, the first Ctrl-C calls `first`, a further one raises KeyboardInterrupt.

    `wake_on` gets a descriptor that can be read after any signal, and None at the end. Who waits must watch it: Python
    runs no handler during a system call that the signal did not interrupt because it came just before.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as under nohup, or somebody else's
        return

    def handle(_number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        first()

    try:
        signal.signal(signal.SIGINT, handle)
    except ValueError:  # not the main thread of a Python caller
        yield
        return
    waking, woken = socket.socketpair()
    with waking, woken:
        waking.setblocking(False)
        woken.setblocking(False)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        wake_on(woken.fileno())
        try:
            yield
        finally:
            wake_on(None)
            signal.set_wakeup_fd(before)
            signal.signal(signal.SIGINT, signal.default_int_handler)
