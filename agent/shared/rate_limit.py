"""A limit for repeated log records: a peer that is refused again and again must not fill the disk."""

from __future__ import annotations

import threading
import time
from typing import Dict, Hashable, Optional

PERIOD_S, ALL_MAX = 60.0, 10


class RateLimit:
    """Admits one record a minute for each key and ten a minute in all, and counts those it leaves out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admitted: Dict[Hashable, float] = {}
        self._left_out = 0

    def admit(self, key: Hashable) -> Optional[int]:
        """Return how many records were left out since the last one; None when this one is left out too."""
        now = time.monotonic()
        with self._lock:
            self._admitted = {one: at for one, at in self._admitted.items() if now - at < PERIOD_S}
            if key in self._admitted or len(self._admitted) >= ALL_MAX:
                self._left_out += 1
                return None
            self._admitted[key] = now
            left_out, self._left_out = self._left_out, 0
            return left_out
