"""Times as the contract writes them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

STEP = timedelta(microseconds=1)
# A clock that goes back further was set, and is believed.
SET_BACK = timedelta(seconds=1)


def now() -> str:
    """Return the time as RFC 3339 in UTC, with milliseconds."""
    return _text(datetime.now(timezone.utc), "milliseconds")


class RisingClock:
    """Times of which each is later than the one before, so that they tell records apart. For one thread at a time."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=timezone.utc)

    def now(self) -> str:
        """Return the time as RFC 3339 in UTC, with microseconds."""
        found = datetime.now(timezone.utc)
        self._last = self._last + STEP if found <= self._last < found + SET_BACK else found
        return _text(self._last, "microseconds")


def _text(time: datetime, precision: str) -> str:
    return time.isoformat(timespec=precision).replace("+00:00", "Z")
