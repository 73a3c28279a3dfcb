"""`--watch`: look again and again, and redraw the terminal, until Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO, TypeVar

from codesmith.errors import BadArgument, CodeSmithError

T = TypeVar("T")

EVERY_S = 2.0
CLEAR, HOME, END_OF_LINE, BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


class Screen(io.StringIO):
    """Takes what a look prints for a terminal."""

    def isatty(self) -> bool:
        """Tables are drawn as on the terminal that is behind it."""
        return True


def watch(look: Callable[[], T], tell: Callable[[CodeSmithError], CodeSmithError]) -> T:
    """Repeat a look until Ctrl-C, and return its last result.

    An error of the first one is raised, a later one is shown, as `tell` words it, until it is over.
    """
    terminal = sys.stdout
    if terminal is None or not terminal.isatty():
        raise BadArgument("--watch redraws a terminal, and standard output is none", hint="leave --watch out")
    result, text = _looked(look)
    terminal.write(CLEAR)
    try:
        while True:
            terminal.write(HOME + "".join(f"{line}{END_OF_LINE}\n" for line in _lines(text, _rows(terminal))) + BELOW)
            terminal.flush()
            time.sleep(EVERY_S)
            try:
                result, text = _looked(look)
            except CodeSmithError as error:
                text = f"{tell(error).message}\n"
    except KeyboardInterrupt:
        return result


def _looked(look: Callable[[], T]) -> tuple[T, str]:
    """Return the result of a look, and what it prints; what it says on stderr comes below."""
    screen, said = Screen(), io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(said):
        result = look()
    return result, screen.getvalue() + said.getvalue()


def _rows(terminal: TextIO) -> int:
    """Return how many lines fit below the first one; the terminal knows, whatever LINES says."""
    return os.get_terminal_size(terminal.fileno()).lines - 2


def _lines(text: str, rows: int) -> list[str]:
    """Return a line with the time, and the lines that fit below it."""
    lines = text.splitlines()
    more = [f"and {len(lines) - rows + 1} more lines"] if len(lines) > rows else []
    return [f"{time.strftime('%H:%M:%S')}  every {EVERY_S:.0f} s, Ctrl-C ends", *lines[: rows - len(more)], *more]
