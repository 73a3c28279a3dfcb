"""Numbers as people read them; JSON and pipes have the exact ones."""

from __future__ import annotations

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


def count(number: int, word: str, words: str = "") -> str:
    """Return a number with its noun: 1 job, 2 jobs."""
    return f"{number} {word if number == 1 else words or word + 's'}"
