"""Times in the format of the contract."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

STEP = timedelta(microseconds=1)
# When the clock goes back further than this, it was set, and the new time is used.
SET_BACK = timedelta(seconds=1)


def now() -> str:
    """Return the current time as RFC 3339 in UTC, with milliseconds."""
    return to_text(datetime.now(timezone.utc), "milliseconds")


class RisingClock:
    """A clock whose times always rise, so that they tell records apart. For one thread at a time."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=timezone.utc)

    def now(self) -> str:
        """Return the current time as RFC 3339 in UTC, with microseconds; later than the last one."""
        current = datetime.now(timezone.utc)
        self._last = self._last + STEP if current <= self._last < current + SET_BACK else current
        return to_text(self._last, "microseconds")


def to_text(time: datetime, precision: str) -> str:
    """Return a time in UTC as RFC 3339."""
    return time.isoformat(timespec=precision).replace("+00:00", "Z")
