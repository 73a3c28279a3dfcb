"""Ask the person at the terminal for something that nobody may see."""

from __future__ import annotations

import atexit
import os
import termios
from functools import partial
from typing import Any

from codesmith.output import escape

TERMINAL = "/dev/tty"


def ask(prompt: str) -> str | None:
    """Return what is typed, unseen; "" for nothing, None where there is no terminal."""
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
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
