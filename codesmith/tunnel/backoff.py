"""When to try again, and whether this machine slept meanwhile."""

from __future__ import annotations

import random
import time

from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyChanged, HostKeyUnknown, WrongNode

FIRST_S, CAP_S = 0.25, 5.0
# Each of these costs the node a refused login, and tools like fail2ban count them.
PATIENT = (AuthenticationFailed, HostKeyUnknown, HostKeyChanged, WrongNode)
PATIENT_S = 20.0
SLEPT_S = 2.0


class Backoff:
    """Waiting times between attempts: doubling, capped, jittered by a quarter, without an end."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._next_s = FIRST_S

    def wait_s(self, error: CodeSmithError) -> float:
        """Return how long to wait after `error`; longer where each attempt does harm."""
        wait_s = PATIENT_S if isinstance(error, PATIENT) else self._next_s
        self._next_s = min(CAP_S, self._next_s * 2)
        return wait_s * random.uniform(0.75, 1.25)  # noqa: S311 (spread, not secrecy)


class SleepWatch:
    """Notices that the machine was suspended: the boot clock runs on while the monotonic clock stands still."""

    def __init__(self) -> None:
        self._gap_s = self._read_s()

    def has_slept(self) -> bool:
        """Return whether the machine slept since the last call."""
        before, self._gap_s = self._gap_s, self._read_s()
        return self._gap_s - before > SLEPT_S

    def _read_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
