"""A live view of the work at each node, shown on a terminal while it lasts, and nowhere else."""

from __future__ import annotations

import os
import sys
import termios
import threading
import time
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from codesmith.cli.cells import escape
from codesmith.cli.prompt import SCREEN, nothing

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

# Shorter work ends before anybody could read the view; rich takes 60 ms to import.
SHOWN_AFTER_S = 0.5
NODES_MAX = 16


class Progress:
    """Keeps the current step of each node. `draw` shows them; only the thread that waits for the others calls it."""

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
        # Wait until an open question is answered; not after Ctrl-C, when nobody will answer it.
        with SCREEN.held if kind is None else nullcontext():
            self._clear()
            SCREEN.clear = nothing

    def __enter__(self) -> Progress:
        SCREEN.clear = self._clear
        return self

    def begin(self, node: str) -> None:
        """Note that work at a node begins."""
        self.step(node, self._doing)

    def step(self, node: str, text: str) -> None:
        """Note the step that begins at a node."""
        with self._lock:
            self._begun[node] = (time.monotonic(), text)

    def end(self, node: str, *, ok: bool) -> None:
        """Note that work at a node ended."""
        with self._lock:
            self._begun.pop(node, None)
            self._ended += 1
            self._failed += not ok

    def lines(self) -> list[str]:
        """Return the view: a line with totals, and a line for each node that is being worked on."""
        now = time.monotonic()
        with self._lock:
            begun, failed = list(self._begun.items()), f", {self._failed} failed" if self._failed else ""
            head = f"{self._ended} of {self._total} done{failed}, {now - self._since:.0f} s"
        width = max((len(node) for node, _ in begun), default=0)
        shown = [f"{node:{width}}  {now - since:5.0f} s  {text}" for node, (since, text) in begun[:NODES_MAX]]
        more = [f"and {len(begun) - NODES_MAX} more"] if len(begun) > NODES_MAX else []
        return [head, *map(escape, shown), *more]

    def draw(self) -> None:
        """Redraw the view, if there is a terminal, no question is open on it, and work has lasted half a second."""
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
            # Lines on stderr meanwhile appear above the view.
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
    """Tell whether another program, such as the ssh of a ProxyCommand, is asking for a password."""
    try:
        return not termios.tcgetattr(stream.fileno())[3] & termios.ECHO
    except (termios.error, OSError):
        return False
