"""How deep JSON is nested, found without parsing it.

The parser of Python 3.13 ends the whole process on deep JSON in a thread with a small stack; older ones raise
RecursionError. So whoever sends JSON from outside must not decide about its depth.
"""

from __future__ import annotations

import re

DEPTH_MAX = 64
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


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
