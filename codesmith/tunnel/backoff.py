"""When to try again."""

from __future__ import annotations

import random

from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyChanged, HostKeyUnknown, WrongNode

FIRST_S, CAP_S = 0.25, 5.0
# Each of these costs the node a refused login, and tools like fail2ban count them.
PATIENT = (AuthenticationFailed, HostKeyUnknown, HostKeyChanged, WrongNode)
PATIENT_S = 20.0


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
