"""How often the same is noted: whoever is refused again and again does not fill the disk by it."""

from __future__ import annotations

import threading
import time
from typing import Dict, Optional

PERIOD_S, ALL_MAX = 60.0, 10


class Rate:
    """Admits one note a minute for each key, and ten a minute for all together; what is left out is counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: Dict[int, float] = {}
        self._left_out = 0

    def admit(self, key: int) -> Optional[int]:
        """Return how many were left out since the last note; None when this one is left out too."""
        now = time.monotonic()
        with self._lock:
            self._noted = {one: at for one, at in self._noted.items() if now - at < PERIOD_S}
            if key in self._noted or len(self._noted) >= ALL_MAX:
                self._left_out += 1
                return None
            self._noted[key] = now
            left_out, self._left_out = self._left_out, 0
            return left_out
