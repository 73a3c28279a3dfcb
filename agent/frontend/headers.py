"""HTTP headers, read line by line: the standard library's e-mail parser would take half the time of a call."""

from __future__ import annotations

from typing import Any, BinaryIO, Dict, List

LINES_MAX = 100


class TooMany(Exception):
    """There are more than LINES_MAX headers."""


class Headers:
    """Values by case-insensitive name. `is_plain` is False when a header was not NAME: VALUE on one line."""

    def __init__(self) -> None:
        self._values: Dict[str, List[str]] = {}
        self.is_plain = True

    def add(self, line: str) -> None:
        """Add one line as it was received."""
        name, colon, value = line.partition(":")
        # White space before a name continues the previous line; after it, two programs may read different names.
        if not colon or not name or name.strip() != name:
            self.is_plain = False
        self._values.setdefault(name.lower(), []).append(value.strip())

    def get_all(self, name: str) -> List[str]:
        """Return all values of a header; an empty list if it is absent."""
        return self._values.get(name.lower(), [])

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value of a header; `default` if it is absent."""
        return next(iter(self.get_all(name)), default)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


def read(stream: BinaryIO) -> Headers:
    """Read the headers from a stream; TooMany when there are more than LINES_MAX."""
    headers = Headers()
    for _ in range(LINES_MAX + 1):
        line = stream.readline()
        if line in (b"\r\n", b"\n", b""):
            return headers
        headers.add(line.decode("latin-1"))
    raise TooMany(f"more than {LINES_MAX} headers")
