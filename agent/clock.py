"""Times as the contract writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time as RFC 3339 in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
