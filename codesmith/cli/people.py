"""Numbers as people read them; JSON and pipes have the exact ones."""

from __future__ import annotations

import datetime

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: float) -> str:
    """Return a number of bytes in the unit that fits: 512 B, 1.5 MiB, 20 GiB."""
    if number < 1024:
        return f"{number:.0f} B"
    power = 1
    while number >= 1023.5 * 1024**power and power < len(UNITS):
        power += 1
    shown = number / 1024**power
    return f"{shown:.1f} {UNITS[power - 1]}" if shown < 9.95 else f"{shown:.0f} {UNITS[power - 1]}"


SPANS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(time: str, now: datetime.datetime) -> str:
    """Return how long ago an RFC 3339 time was, or when it will be: 3 min ago, in 8 h; "" for what is no time."""
    try:
        seconds = (now - datetime.datetime.fromisoformat(time)).total_seconds()
    except (ValueError, TypeError):
        return ""
    for length, word in SPANS:
        if abs(seconds) >= length:
            number = f"{abs(seconds) // length:.0f} {word}"
            return f"{number} ago" if seconds > 0 else f"in {number}"
    return "now"


def count(number: int, word: str, words: str = "") -> str:
    """Return a number with its noun: 1 job, 2 jobs."""
    return f"{number} {word if number == 1 else words or word + 's'}"
