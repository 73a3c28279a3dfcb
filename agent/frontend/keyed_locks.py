"""One lock per key, so that two calls with the same request_id run one after the other."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Iterator, Set

from agent.frontend.context import LOCK_WAIT_S
from agent.shared.errors import InUse


class KeyedLocks:
    """Locks by key; a key that nobody holds takes no memory."""

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._held: Set[str] = set()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Wait for a key and hold it; InUse after LOCK_WAIT_S."""
        with self._guard:
            if not self._guard.wait_for(lambda: key not in self._held, timeout=LOCK_WAIT_S):
                problem = f"a call with request_id {key!r} is still running"
                raise InUse(problem, hint="repeat the call with the same request_id")
            self._held.add(key)
        try:
            yield
        finally:
            with self._guard:
                self._held.discard(key)
                self._guard.notify_all()
