"""What the files of workspaces take, as the helper measures it; a result counts for longer, the longer it took."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Tuple

# So looking again and again, as the admin UI does, costs the node at most this share of a processor.
SHARE = 0.05


class DiskUsage:
    """Measures and remembers; safe to use from many threads."""

    def __init__(self, measure: Callable[[str], Dict[str, Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._measure, self._clock, self._lock = measure, clock, threading.Lock()
        self._known: Dict[str, Tuple[float, Dict[str, Any]]] = {}

    def of(self, workspace: str) -> Dict[str, Any]:
        """Return disk_bytes and files of a workspace."""
        with self._lock:
            until, known = self._known.get(workspace, (0.0, {}))
        begun = self._clock()
        if begun < until:
            return known
        measured = self._measure(workspace)
        ended = self._clock()
        with self._lock:
            self._known = {name: one for name, one in self._known.items() if one[0] > ended}
            self._known[workspace] = (ended + (ended - begun) / SHARE, measured)
        return measured
