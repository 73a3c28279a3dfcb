"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyChanged, HostKeyUnknown, WrongNode

FIRST_S, CAP_S = 0.25, 5.0
# An attempt that ends with one of these may be a refused login, and tools like fail2ban count those.
REFUSALS = (AuthenticationFailed, HostKeyUnknown, HostKeyChanged, WrongNode)
REFUSED_S = 20.0


class Backoff:
    """Waits between attempts, for ever: 0.25 s, doubled up to 5 s, with a quarter of jitter."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self._next_s = FIRST_S

    def wait_s(self, error: CodeSmithError) -> float:
        """Return how many seconds to wait after `error`; about 20 after a refusal."""
        wait_s = REFUSED_S if isinstance(error, REFUSALS) else self._next_s
        self._next_s = min(CAP_S, self._next_s * 2)
        return wait_s * random.uniform(0.75, 1.25)  # noqa: S311 (jitter, no secret)
