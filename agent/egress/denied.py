"""Which hosts were denied: the last 100, counted, in a file that the operator's side reads."""

from __future__ import annotations

import json
import os
from typing import Dict, List, Optional, Tuple

from agent.shared import clock
from agent.shared.host_lists import parse_host

FILE = "denied.json"
KEPT_MAX = 100
SIZE_MAX = 256 * 1024
COUNT_MAX = 10**9


class DeniedHosts:
    """Hosts and ports with a count and a last time. The names are in their one spelling: short, ASCII, no controls."""

    def __init__(self, folder: Optional[str]) -> None:
        """Read what an earlier process wrote; without a folder nothing is written."""
        self.is_changed = False
        self._path = os.path.join(folder, FILE) if folder else None
        self._known: Dict[Tuple[str, int], Tuple[int, str]] = {}
        if self._path:
            try:
                self._read(self._path)
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                self._known = {}

    def add(self, host: str, port: int) -> None:
        """Count one more; the oldest of too many is forgotten."""
        count = self._known.pop((host, port), (0, ""))[0]
        self._known[host, port] = (min(count + 1, COUNT_MAX), clock.now())
        if len(self._known) > KEPT_MAX:
            del self._known[next(iter(self._known))]
        self.is_changed = True

    def records(self) -> List[Dict[str, object]]:
        """Return what the file has, the newest last."""
        return [
            {"host": host, "port": port, "count": count, "last_at": last_at}
            for (host, port), (count, last_at) in self._known.items()
        ]

    def write(self) -> None:
        """Replace the file. On a full disk the old one stays, and the next change is written."""
        self.is_changed = False
        if not self._path:
            return
        new = f"{self._path}.new"
        try:
            with open(new, "w", encoding="ascii") as file:
                json.dump(self.records(), file)
            os.replace(new, self._path)
        except OSError:
            self.is_changed = True

    def _read(self, path: str) -> None:
        with open(path, encoding="ascii") as file:
            for record in json.loads(file.read(SIZE_MAX))[-KEPT_MAX:]:
                host, port = str(parse_host(record["host"])), int(record["port"])
                self._known[host, port] = (int(record["count"]), str(record["last_at"])[:40])
