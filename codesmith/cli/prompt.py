"""Ask the person at the terminal for something that nobody may see; a view that is shown there makes room meanwhile."""

from __future__ import annotations

import atexit
import os
import termios
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from codesmith.cli.output import escape

TERMINAL = "/dev/tty"


def nothing() -> None:
    """No view is shown."""


class Screen:
    """The terminal as a view and a question share it: held by one of them at a time."""

    def __init__(self) -> None:
        self.held = threading.Lock()
        # How the view is taken away; set by whoever shows one.
        self.clear: Callable[[], None] = nothing


SCREEN = Screen()


def ask(prompt: str) -> str | None:
    """Return what is typed, unseen; "" for nothing, None where there is no terminal."""
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
    unseen = [*before]
    unseen[3] &= ~termios.ECHO
    # A command that is cancelled ends while this thread still reads: the terminal must show again what is typed.
    restore = partial(_restore, before)
    atexit.register(restore)
    try:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, unseen)
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
