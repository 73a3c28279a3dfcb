"""Read HTTP requests from a connection that anybody on this machine may have opened; refuse what is ambiguous."""

from __future__ import annotations

import re
import select
import socket
import time
from dataclasses import dataclass

HEAD_BYTES_MAX = 16 << 10
HEADERS_MAX = 64
BODY_BYTES_MAX = 256 << 10  # as the agent's own
REQUEST_S = 10.0

FIRST_LINE = r"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.([01])"
# No white space before the colon, no folded lines, no control characters.
HEADER = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)"


class Rejected(Exception):
    """The request is refused with `status`; the connection ends after the answer."""

    def __init__(self, status: int, problem: str, *, hint: str = "") -> None:
        self.status, self.problem, self.hint = status, problem, hint
        super().__init__(problem)


@dataclass(frozen=True)
class Head:
    """Request line and headers; header names are in lower case, each at most once."""

    method: str
    target: str
    headers: dict[str, str]
    stays_open: bool

    @property
    def body_size(self) -> int:
        """The size of the body in bytes; Rejected unless exactly one Content-Length gives it."""
        size = self.headers.get("content-length", "")
        if "transfer-encoding" in self.headers or not re.fullmatch("[0-9]{1,9}", size):
            raise Rejected(400, "the body needs a Content-Length, and no Transfer-Encoding")
        if int(size) > BODY_BYTES_MAX:
            raise Rejected(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
        return int(size)


class Reader:
    """Reads one request after the other; each must be complete REQUEST_S after its first byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._data, self._deadline = connection, bytearray(), 0.0

    @property
    def has_more(self) -> bool:
        """Whether bytes of the client have come that no request has used."""
        return bool(self._data) or bool(select.select([self._connection], [], [], 0)[0])

    def read_head(self, idle_s: float) -> Head | None:
        """Return the next head; None if the client leaves, sends nothing for `idle_s` or is too slow."""
        self._deadline = time.monotonic() + idle_s
        if not self._data and not self._receive():
            return None
        self._deadline = time.monotonic() + REQUEST_S
        while (end := self._data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)) < 0:
            if len(self._data) >= HEAD_BYTES_MAX:
                raise Rejected(400, f"the headers are longer than {HEAD_BYTES_MAX} bytes")
            if not self._receive():
                return None
        return parse_head(self._cut(end + 4)[:end])

    def read_body(self, size: int) -> bytes | None:
        """Return the body; None if the client leaves or is too slow."""
        while len(self._data) < size:
            if not self._receive():
                return None
        return self._cut(size)

    def _cut(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def _receive(self) -> bool:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return False
        self._connection.settimeout(left_s)
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            return False
        self._data += data
        return bool(data)


def parse_head(data: bytes) -> Head:
    """Return the head; Rejected for anything that two programs could read differently."""
    first, *lines = data.decode("latin-1").split("\r\n")
    found = re.fullmatch(FIRST_LINE, first)
    if found is None:
        raise Rejected(400, "not a request of HTTP/1.1")
    if len(lines) > HEADERS_MAX:
        raise Rejected(400, f"more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        header = re.fullmatch(HEADER, line)
        if header is None:
            raise Rejected(400, "a malformed header")
        name = header[1].lower()
        if name in headers:
            raise Rejected(400, f"two headers {name}")
        headers[name] = header[2].strip()
    connection = headers.get("connection", "").lower()
    return Head(found[1], found[2], headers, found[3] == "1" and "close" not in connection)
