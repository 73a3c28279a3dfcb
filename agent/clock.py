"""Times as the contract writes them."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """Return the time as RFC 3339 in UTC, with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
