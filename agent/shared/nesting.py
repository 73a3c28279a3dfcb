"""How deep JSON is nested and how much is in it, found without parsing it.

The parser of Python 3.13 ends the whole process on deep JSON in a thread with a small stack; older ones raise
RecursionError. So whoever sends JSON from outside must not decide about its depth.
"""

from __future__ import annotations

import re

DEPTH_MAX = 64
# One that does not end goes to the end of the text: tried again from each quote in it, it would take quadratic time.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TOKENS = re.compile(_STRING + rb"|[\[{]|[\]}]", re.DOTALL)


def check_count(data: bytes, count_max: int) -> None:
    """Raise ValueError when JSON text has more values than this: small ones take fifty times their text in memory."""
    if _count(data) > count_max and _count(_STRINGS.sub(b"", data)) > count_max:
        raise ValueError(f"it has more than {count_max} values")


def _count(data: bytes) -> int:
    """Return how many values may be in JSON text: an empty list is one without a comma."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def check_depth(data: bytes) -> None:
    """Raise ValueError when JSON text is nested deeper than DEPTH_MAX."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for match in _TOKENS.finditer(data):
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise ValueError(f"it is nested deeper than {DEPTH_MAX}")
        elif first in b"]}":
            depth -= 1
