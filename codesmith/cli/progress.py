"""What is under way at each node: a view that a terminal shows while work lasts, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
import termios
import threading
import time
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from codesmith.cli.output import escape
from codesmith.cli.prompt import SCREEN, nothing

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

# Shorter work is over before anybody could read; rich takes 60 ms to import.
SHOWN_AFTER_S = 0.5
NODES_MAX = 16


class Progress:
    """Knows what is under way; `draw` shows it, called by the one thread that waits for the others."""

    def __init__(self, total: int, doing: str = "", stream: TextIO | None = None) -> None:
        self._total, self._doing, self._stream = total, doing, stream or sys.stderr
        self._lock = threading.Lock()
        self._begun: dict[str, tuple[float, str]] = {}
        self._ended = self._failed = 0
        self._since = time.monotonic()
        self._live: Live | None = None
        self.is_shown = self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not before a question is answered: after Ctrl-C the terminal is its own again.
        with SCREEN.held if kind is None else nullcontext():
            self._clear()
            SCREEN.clear = nothing

    def __enter__(self) -> Progress:
        SCREEN.clear = self._clear
        return self

    def begin(self, node: str) -> None:
        """Say that work at a node begins."""
        self.step(node, self._doing)

    def step(self, node: str, text: str) -> None:
        """Say what is under way at a node from now on."""
        with self._lock:
            self._begun[node] = (time.monotonic(), text)

    def end(self, node: str, *, ok: bool) -> None:
        """Say that work at a node ended."""
        with self._lock:
            self._begun.pop(node, None)
            self._ended += 1
            self._failed += not ok

    def lines(self) -> list[str]:
        """Return the view: how far it is, and a line for each node at which something is under way."""
        now = time.monotonic()
        with self._lock:
            begun, failed = list(self._begun.items()), f", {self._failed} failed" if self._failed else ""
            head = f"{self._ended} of {self._total} done{failed}, {now - self._since:.0f} s"
        width = max((len(node) for node, _ in begun), default=0)
        shown = [f"{node:{width}}  {now - since:5.0f} s  {text}" for node, (since, text) in begun[:NODES_MAX]]
        more = [f"and {len(begun) - NODES_MAX} more"] if len(begun) > NODES_MAX else []
        return [head, *map(escape, shown), *more]

    def draw(self) -> None:
        """Show the view as it is now, if there is a terminal, nobody is asked there, and work lasts."""
        if not self.is_shown or time.monotonic() - self._since < SHOWN_AFTER_S or _is_asked(self._stream):
            return
        if not SCREEN.held.acquire(blocking=False):
            return
        try:
            self._draw()
        finally:
            SCREEN.held.release()

    def _draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream, highlight=False)
            # What is said meanwhile comes above the view.
            self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(self._text(), refresh=True)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _text(self) -> RenderableType:
        from rich.text import Text

        return Text("\n".join(self.lines()), no_wrap=True, overflow="ellipsis")


def _is_asked(stream: TextIO) -> bool:
    """Tell whether another program, an ssh of a ProxyCommand say, asks for a password just now."""
    try:
        return not termios.tcgetattr(stream.fileno())[3] & termios.ECHO
    except (termios.error, OSError):
        return False
