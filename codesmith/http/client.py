"""HTTP/1.1 over a local socket, as much as a JSON-RPC call needs: one POST, one answer, the connection kept open.

`http.client` does the same, but takes 29 ms to import, a fifth of an `inv` run: it imports the e-mail package and ssl.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from codesmith.http.port import HOST, Port
from codesmith.http.scoped_socket import ScopedSocket

SWITCHING = 101
SILENCE_S = 8.0
# An answer that has begun may take this long: it can be a long list over a slow connection.
ANSWER_S = 60.0
HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 64 << 20


class Closed(Exception):
    """The other side ended the connection. `was_silent`: no byte of an answer had arrived."""

    def __init__(self, *, was_silent: bool) -> None:
        self.was_silent = was_silent
        super().__init__(f"the connection ended {'before' if was_silent else 'in'} the answer")


class BadAnswer(Exception):
    """The answer is not the HTTP/1.1 that this client reads."""


class NotSwitched(BadAnswer):
    """The other side does not switch to another protocol; `status` and `body` say why."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        super().__init__(f"HTTP {status}")


class Connection:
    """One open connection to a Unix socket or a Port; not for two threads at once.

    A `deadline` is a value of time.monotonic(). Every wait ends at its deadline with TimeoutError; an answer that has
    begun by then has ANSWER_S for the rest. `on_silence` is called once if nothing arrives for SILENCE_S; an error that
    it raises ends the wait.
    """

    def __init__(
        self, to: Path | Port | ScopedSocket, deadline: float, on_silence: Callable[[], None] | None = None
    ) -> None:
        address: str | tuple[str, int]
        if isinstance(to, Port):
            family, address = socket.AF_INET, (HOST, to.number)
            self._headers = f"Host: {HOST}:{to.number}\r\nAuthorization: Bearer {to.read_token()}\r\n"
        elif isinstance(to, ScopedSocket):
            family, address = socket.AF_UNIX, os.fspath(to.path)
            self._headers = f"Host: localhost\r\nAuthorization: Bearer {to.read_token()}\r\n"
        else:
            family, address = socket.AF_UNIX, os.fspath(to)
            self._headers = "Host: localhost\r\n"
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._rest, self._on_silence = b"", on_silence
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.connect(address)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the connection; safe to call again."""
        self._socket.close()

    @property
    def is_stale(self) -> bool:
        """Whether the other side closed the idle connection, or sent something unasked."""
        ready = select.poll()
        ready.register(self._socket, select.POLLIN | select.POLLHUP)
        return bool(self._rest or ready.poll(0))

    def post(self, body: bytes, deadline: float) -> tuple[int, bytes, bool]:
        """Send one POST / and return status, body and whether the connection stays open.

        Closed if the other side ends the connection, BadAnswer if the answer is not HTTP.
        """
        head = f"POST / HTTP/1.1\r\n{self._headers}Content-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body
        self._rest = b""
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it closed: a server does so to refuse a body that is too long
        return self._answer(deadline)

    def upgrade(self, target: str, protocol: str, headers: Mapping[str, str], deadline: float) -> socket.socket:
        """Ask for another protocol and return the socket for it; this object must not be used any more.

        NotSwitched has the answer if the other side refuses, Closed says that it ended the connection.
        """
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {target} HTTP/1.1\r\n{self._headers}Connection: Upgrade\r\nUpgrade: {protocol}\r\n{more}"
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(f"{head}Content-Length: 0\r\n\r\n".encode("ascii"))
            self._read_switch(deadline)
        except (BrokenPipeError, ConnectionResetError):
            self.close()
            raise Closed(was_silent=True) from None
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(None)
        return self._socket

    def _read_switch(self, deadline: float) -> None:
        """Read the answer, but no byte after the headers of a 101, which belongs to the other protocol."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            self._socket.settimeout(_left(deadline))
            try:
                chunk = self._socket.recv(1)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise Closed(was_silent=not data)
            data += chunk
            if len(data) > HEAD_BYTES_MAX:
                raise BadAnswer("headers without end")
        status, headers = _parse_head(data[:-4])
        if status == SWITCHING:
            return
        body = b""
        with contextlib.suppress(Closed):
            while len(body) < _length(headers):
                body += self._receive(deadline, was_silent=False)
        raise NotSwitched(status, body)

    def _answer(self, deadline: float) -> tuple[int, bytes, bool]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive(deadline, was_silent=not data)
            if len(data) > HEAD_BYTES_MAX:
                raise BadAnswer("headers without end")
        head, _, data = data.partition(b"\r\n\r\n")
        status, headers = _parse_head(head)
        length, deadline = _length(headers), max(deadline, time.monotonic() + ANSWER_S)
        parts, have = [data], len(data)
        while have < length:
            parts.append(self._receive(deadline, was_silent=False))
            have += len(parts[-1])
        body = b"".join(parts)
        self._rest = body[length:]
        return status, body[:length], "close" not in headers.get("connection", "").lower()

    def _receive(self, deadline: float, *, was_silent: bool) -> bytes:
        if self._on_silence and not self._is_readable(min(SILENCE_S, _left(deadline))):
            _left(deadline)  # past the deadline `on_silence` would only prolong the wait
            ask, self._on_silence = self._on_silence, None
            ask()
        self._socket.settimeout(_left(deadline))
        try:
            chunk = self._socket.recv(1 << 16)
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise Closed(was_silent=was_silent)
        return chunk

    def _is_readable(self, within_s: float) -> bool:
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        return bool(ready.poll(within_s * 1000))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not re.fullmatch("[0-9]{3}", words[1]):
        raise BadAnswer(f"not an HTTP answer: {first[:60]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if words[0] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(words[1]), headers


def _length(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,12}", text) or int(text) > BODY_BYTES_MAX:
        raise BadAnswer(f"an answer without a usable Content-Length ({text[:20]!r})")
    return int(text)
