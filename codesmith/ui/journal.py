"""Follows a node's journal as `inv node.logs --follow` does, in a process that ends when nobody looks any more."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node

LINES = 300
KEPT = 1000
# Lines that come at once are told at once.
TOLD_S = 0.3
LOOK_S = 1.0
END_S = 20.0


def command_for(node: Node) -> tuple[str, ...]:
    """Return the command that follows the journal of a node."""
    options = ("--node", node.name, "--file", str(node.registry), "--lines", str(LINES), "--follow")
    return (sys.executable, "-m", "codesmith", "node.logs", *options)


def follow(command: Iterable[str], tell: Callable[[list[str]], None], is_wanted: Callable[[], bool]) -> None:
    """Give `tell` the last lines, again as they grow, as long as `is_wanted`; CodeSmithError if it ends by itself."""
    lines: deque[str] = deque(maxlen=KEPT)
    done, changed = threading.Event(), threading.Event()
    # SIGINT ends it as Ctrl-C does: nothing keeps running on the node.
    with subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        reader = threading.Thread(target=_read, args=(process, lines, changed, done), daemon=True)
        reader.start()
        looked_at = time.monotonic()
        while not done.wait(TOLD_S):
            if changed.is_set():
                changed.clear()
                tell(list(lines))
            if time.monotonic() - looked_at >= LOOK_S:
                looked_at = time.monotonic()
                if not is_wanted():
                    break
        _end(process)
        reader.join()
        tell(list(lines))
        if process.returncode and is_wanted():
            raise _error(process.stderr.read() if process.stderr else "")


def _read(process: subprocess.Popen[str], lines: deque[str], changed: threading.Event, done: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        changed.set()
    done.set()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _error(said: str) -> CodeSmithError:
    """Return the error that the command printed."""
    parts = {line.partition(": ")[0]: line.partition(": ")[2] for line in said.splitlines() if ": " in line}
    return CodeSmithError(parts.get("error") or "the journal ended", hint=parts.get("hint", ""))
