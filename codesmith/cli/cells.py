"""A value as text: one line, and nothing in it that could control a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

# Control, format (bidirectional overrides among them), surrogate, line and paragraph separators.
UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def escape(text: str, keep: str = "") -> str:
    """Return `text` with every character that could control a terminal written as an escape, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(char) if _is_unsafe(char) and char not in keep else char for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in UNSAFE


def _written(char: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    number = ord(char)
    return known.get(char) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def cell(value: Any) -> str:
    """Return one value as the text of a cell: empty for None, commas between items."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(cell(item) for item in value)
    return str(value)
