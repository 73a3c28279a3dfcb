"""HTTP headers, read line by line: the standard library reads them as e-mail, which takes half the time of a call."""

from __future__ import annotations

import http.client
from typing import Any, BinaryIO, Dict, List

LINES_MAX = 100


class Headers:
    """Values by name, whatever its case. `is_plain`: each header stood in one line, with a colon behind its name."""

    def __init__(self) -> None:
        self._values: Dict[str, List[str]] = {}
        self.is_plain = True

    def add(self, line: str) -> None:
        """Take one line as it came."""
        name, colon, value = line.partition(":")
        # White space before the name continues the line before, behind it two programs may read two names.
        if not colon or not name or name.strip() != name:
            self.is_plain = False
        self._values.setdefault(name.lower(), []).append(value.strip())

    def get_all(self, name: str) -> List[str]:
        """Return all values of a header, none if it is not there."""
        return self._values.get(name.lower(), [])

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value, `default` if there is none."""
        return next(iter(self.get_all(name)), default)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


def read(stream: BinaryIO, _class: Any = None) -> Headers:
    """Return the headers that a stream has next; HTTPException when they are too many.

    http.server calls this in place of http.client.parse_headers, which takes the same.
    """
    headers = Headers()
    for _ in range(LINES_MAX + 1):
        line = stream.readline()
        if line in (b"\r\n", b"\n", b""):
            return headers
        headers.add(line.decode("latin-1"))
    raise http.client.HTTPException(f"more than {LINES_MAX} headers")


http.client.parse_headers = read  # type: ignore[assignment]
