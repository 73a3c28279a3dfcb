"""One connection to a node's port: every request is checked, then made anew on the node's Unix socket."""

from __future__ import annotations

import hmac
import socket
import time
from http import HTTPStatus
from pathlib import Path

from codesmith.errors import AuthenticationFailed, CodeSmithError
from codesmith.http.client import BadAnswer, Closed, Connection
from codesmith.http.connection_limit import ConnectionLimit
from codesmith.http.port import HOST
from codesmith.http.refusal import refuse
from codesmith.http.request import Head, Reader, Rejected

STRANGER_S = 10.0
IDLE_S = 60.0
# The longest command the contract allows (3,600 s), and what stands around it.
ANSWER_S = 3800.0
SEND_S = 60.0
# Well below the agent's idle limit: a connection that it closes just as a call leaves is avoided, not repaired.
KEEP_S = 30.0


class Session:
    """Serves one client until it leaves, asks for something that is not served, or waits too long.

    No header of the client's travels further, so neither does the token; what the node says comes back as JSON alone.
    """

    def __init__(self, client: socket.socket, limit: ConnectionLimit, port: int, token: str, endpoint: Path) -> None:
        self._client, self._limit, self._endpoint = client, limit, endpoint
        self._token = token.encode()
        self._hosts = (f"{HOST}:{port}", f"localhost:{port}")
        self._reader = Reader(client)
        self._onward: Connection | None = None
        self._last_used = 0.0

    def serve(self) -> None:
        """Return when the connection is over; the caller closes it."""
        idle_s = STRANGER_S
        try:
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._answer_one(idle_s):
                idle_s = IDLE_S
        except Rejected as no:
            self._refuse(no)
        except (TimeoutError, Closed, OSError):
            pass  # one of both ends is gone: as on the Unix socket, the connection then ends
        finally:
            self._limit.leave(self._client)
            if self._onward is not None:
                self._onward.close()

    def _answer_one(self, idle_s: float) -> bool:
        """Serve one request; return whether another may follow."""
        head = self._reader.read_head(idle_s)
        if head is None:
            return False
        self._check(head)
        body = self._read_body(head)
        if body is None:
            return False
        self._limit.work(self._client)
        status, answer = self._pass_on(body)
        stays_open = head.stays_open and status == HTTPStatus.OK
        self._client.settimeout(SEND_S)
        self._client.sendall(_answer(status, answer, stays_open=stays_open))
        self._limit.wait(self._client)
        return stays_open

    def _check(self, head: Head) -> None:
        """Raise Rejected for all that is not a call by somebody who could read the token."""
        headers = head.headers
        if headers.get("host", "").lower() not in self._hosts:
            raise Rejected(403, f"Host must be {self._hosts[0]}: a page of another name has no business here")
        if headers.get("origin", f"http://{self._hosts[0]}") not in [f"http://{host}" for host in self._hosts]:
            raise Rejected(403, "a web page of another origin has no business here")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_known = hmac.compare_digest(token.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not is_known:
            raise Rejected(401, "no valid token", hint="inv node.status --json  # token_file is what to send as Bearer")
        if head.target != "/":
            raise Rejected(404, "there is only /")
        if head.method != "POST":
            raise Rejected(405, "POST a JSON-RPC 2.0 request to /")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Rejected(415, "Content-Type must be application/json")
        if headers.get("content-encoding", "identity") != "identity":
            raise Rejected(415, "Content-Encoding is not supported")

    def _read_body(self, head: Head) -> bytes | None:
        size = head.body_size
        if head.headers.get("expect", "").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._reader.read_body(size)

    def _pass_on(self, body: bytes) -> tuple[int, bytes]:
        """Return what the Unix socket answers; a call is sent once, whatever happens to it."""
        deadline = time.monotonic() + ANSWER_S
        if self._onward is not None and (self._onward.is_stale or time.monotonic() - self._last_used > KEEP_S):
            self._onward.close()
            self._onward = None
        if self._onward is None:
            self._onward = self._connect(deadline)
        try:
            status, answer, stays_open = self._onward.post(body, deadline)
        except BadAnswer as error:
            raise Rejected(502, f"the node answered with something else: {error}") from None
        self._last_used = time.monotonic()
        if not stays_open:
            self._onward.close()
            self._onward = None
        return status, answer

    def _connect(self, deadline: float) -> Connection:
        try:
            return Connection(self._endpoint, deadline)
        except OSError as error:
            raise Rejected(
                503, f"the node's endpoint is not there now: {error.strerror}", hint="inv node.status"
            ) from None

    def _refuse(self, no: Rejected) -> None:
        kind = AuthenticationFailed if no.status == HTTPStatus.UNAUTHORIZED else CodeSmithError
        headers = {401: "WWW-Authenticate: Bearer\r\n", 405: "Allow: POST\r\n"}.get(no.status, "")
        refuse(self._client, kind(no.problem, hint=no.hint), no.status, headers)


def _answer(status: int, body: bytes, *, stays_open: bool) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Answer"
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nServer: codesmith-forwarder\r\nContent-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if stays_open else 'close'}\r\n\r\n"
    )
    return head.encode() + body
