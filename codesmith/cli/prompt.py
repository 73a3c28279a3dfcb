"""Ask on the terminal for a secret, without echo; a progress view is cleared meanwhile."""

from __future__ import annotations

import atexit
import os
import termios
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from codesmith.cli.cells import escape

TERMINAL = "/dev/tty"


def nothing() -> None:
    """Clear no view: none is shown."""


class Screen:
    """The terminal, shared by a progress view and a question: only the holder of `held` writes to it."""

    def __init__(self) -> None:
        self.held = threading.Lock()
        # Clears the view; set by the code that shows one.
        self.clear: Callable[[], None] = nothing


SCREEN = Screen()


def ask(prompt: str) -> str | None:
    """Return the line that is typed, without echo: "" for an empty one, None where there is no terminal."""
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with SCREEN.held:
            SCREEN.clear()
            return _ask(terminal, prompt)
    finally:
        os.close(terminal)


def _ask(terminal: int, prompt: str) -> str:
    before = termios.tcgetattr(terminal)
    without_echo = [*before]
    without_echo[3] &= ~termios.ECHO
    # A cancelled command ends while this thread still reads: the terminal must echo again.
    restore = partial(_restore, before)
    atexit.register(restore)
    try:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, without_echo)
        os.write(terminal, escape(prompt).encode())
        typed = os.read(terminal, 4096)
        os.write(terminal, b"\n")
    finally:
        restore()
        atexit.unregister(restore)
    return typed.decode(errors="surrogateescape").rstrip("\r\n")


def _restore(attributes: list[Any]) -> None:
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    finally:
        os.close(terminal)
