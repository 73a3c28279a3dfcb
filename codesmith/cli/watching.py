"""`--watch`: look again and again, and redraw the terminal, until Ctrl-C or q."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO, TypeVar

from codesmith.cli import terminal as terminals
from codesmith.errors import BadArgument, CodeSmithError

T = TypeVar("T")

EVERY_S = 2.0
# How long a window may have another size until it is drawn anew.
RESIZED_S = 0.2
CLEAR, HOME, END_OF_LINE, BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


class Screen(io.StringIO):
    """Takes what a look prints for a terminal."""

    def isatty(self) -> bool:
        """Tables are drawn as on the terminal that is behind it."""
        return True


class Quit(Exception):
    """The person at the terminal has typed q."""


class Keys:
    """What is typed at the terminal while it is watched; nothing where standard input is none, or not for us."""

    def __init__(self) -> None:
        self._descriptor, self.is_resized = terminals.descriptor_of(sys.stdin), False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Take keys one by one while the block lasts; the terminal is restored however that ends."""
        if not self._is_ours():
            self._descriptor = None
            yield
            return
        with terminals.RawTerminal(lambda *_: setattr(self, "is_resized", True), keeps_signals=True):
            yield

    def wait(self, seconds: float, press: Callable[[str], bool]) -> None:
        """Wait, or until the size has changed or `press` is content with a key; q raises Quit."""
        until = time.monotonic() + seconds
        self.is_resized = False
        while not self.is_resized and (left := until - time.monotonic()) > 0:
            if self._descriptor is None:
                time.sleep(left)
            elif select.select([self._descriptor], [], [], min(left, RESIZED_S))[0] and self._is_ours():
                keys = os.read(self._descriptor, 64).decode(errors="replace")
                if not keys:  # it hung up
                    self._descriptor = None
                if "q" in keys:
                    raise Quit
                if any(press(key) for key in keys):
                    return

    def _is_ours(self) -> bool:
        try:
            return terminals.is_terminal(self._descriptor) and terminals.is_foreground(self._descriptor or 0)
        except OSError:
            return False


def watch(
    look: Callable[[], T],
    tell: Callable[[CodeSmithError], CodeSmithError],
    press: Callable[[str], bool] = lambda _: False,
) -> T:
    """Repeat a look until Ctrl-C or q, and return its last result.

    An error of the first one is raised, a later one is shown, as `tell` words it, until it is over. `press` gets every
    other key, and tells whether to look at once.
    """
    terminal = sys.stdout
    if terminal is None or not terminal.isatty():
        raise BadArgument("--watch redraws a terminal, and standard output is none", hint="leave --watch out")
    result, text = _looked(look)
    keys = Keys()
    try:
        with keys.reading():
            terminal.write(CLEAR)
            while True:
                lines = "".join(f"{line}{END_OF_LINE}\n" for line in _lines(text, _rows(terminal)))
                terminal.write(HOME + lines + BELOW)
                terminal.flush()
                keys.wait(EVERY_S, press)
                try:
                    result, text = _looked(look)
                except CodeSmithError as error:
                    text = f"{tell(error).message}\n"
    except (KeyboardInterrupt, Quit):
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
    return [f"{time.strftime('%H:%M:%S')}  every {EVERY_S:.0f} s, q or Ctrl-C ends", *lines[: rows - len(more)], *more]
