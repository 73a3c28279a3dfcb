"""What holds for every command in a workspace: where it may run, and how many there are at once."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import Iterator, Optional

from agent.shared.errors import InvalidParams, LimitReached

COMMANDS_MAX = 48
# So that one workspace cannot take them all.
WORKSPACE_COMMANDS_MAX = 24


class Commands:
    """Counts what callers wait for in workspaces: commands, git jobs, file jobs. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextmanager
    def counted(self, workspace: str) -> Iterator[None]:
        """Count a command while it runs; LimitReached when there are too many, on the node or in the workspace."""
        with self._lock:
            if sum(self._running.values()) >= COMMANDS_MAX:
                raise LimitReached(f"{COMMANDS_MAX} commands are running on this node already", hint="try again")
            if self._running[workspace] >= WORKSPACE_COMMANDS_MAX:
                problem = f"{WORKSPACE_COMMANDS_MAX} commands are running in workspace {workspace!r} already"
                raise LimitReached(problem, hint="try again; or job.start, which waits for nothing")
            self._running[workspace] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[workspace] -= 1
                self._running += Counter()  # drops those that are zero


def working_directory(cwd: Optional[str]) -> str:
    """Return where a command is to run, relative to its workspace; InvalidParams when that is outside."""
    if cwd is not None and (cwd.startswith("/") or ".." in cwd.split("/")):
        raise InvalidParams.of("cwd", "must be relative to the workspace and stay inside it")
    return cwd or ""
