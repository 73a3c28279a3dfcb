"""Limits for repeated log records: a peer that knocks or comes in again and again must not fill the disk."""

from __future__ import annotations

import threading
import time
from typing import Dict, Hashable, NamedTuple, Optional

PERIOD_S, ALL_MAX = 60.0, 10
# Of what is allowed: so many records of each key one after the other, and later one in every while.
BURST, REFILL_S = 200, 10.0


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


class Spent(NamedTuple):
    """How many records a key has used up at a time, and how many were left out since the last one."""

    records: float
    at: float
    left_out: int


class Allowance:
    """Admits BURST records of each key, then one every REFILL_S, and counts those it leaves out by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: Dict[Hashable, Spent] = {}

    def admit(self, key: Hashable) -> Optional[int]:
        """Return how many records of the key were left out since its last one; None when this one is left out too."""
        now = time.monotonic()
        with self._lock:
            # Those that have all of it again, and nothing to tell, are forgotten.
            self._spent = {
                one: spent for one, spent in self._spent.items() if spent.left_out or _spent_now(spent, now) > 0
            }
            spent = self._spent.get(key, Spent(0.0, now, 0))
            used = _spent_now(spent, now)
            if used > BURST - 1:
                self._spent[key] = Spent(used, now, spent.left_out + 1)
                return None
            self._spent[key] = Spent(used + 1, now, 0)
            return spent.left_out


def _spent_now(spent: Spent, now: float) -> float:
    return max(0.0, spent.records - (now - spent.at) / REFILL_S)
