"""One connection to a node's port: check every request, then send a new one with its body to the node's Unix socket."""

from __future__ import annotations

import hmac
import re
import socket
import time
from http import HTTPStatus
from pathlib import Path

from codesmith.errors import AuthenticationFailed, CodeSmithError
from codesmith.http.client import BadAnswer, Closed, Connection, NotSwitched
from codesmith.http.connection_limit import ConnectionLimit
from codesmith.http.port import HOST
from codesmith.http.refusal import refuse
from codesmith.http.request import Head, Reader, Rejected
from codesmith.http.splice import splice

UNAUTHENTICATED_S = 10.0
IDLE_S = 60.0
# The longest command that the contract allows (3,600 s), and some overhead.
ANSWER_S = 3800.0
SEND_S = 60.0
# Well below the agent's idle limit, so that the agent never closes a connection just as a call uses it.
KEEP_S = 30.0
# The agent may have to start the runtime of the workspace.
UPGRADE_S = 90.0
STREAM, PROTOCOL, STREAM_TOKEN = "/stream", "codesmith-stream", "codesmith-token"
SWITCHED = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()


class Session:
    """Serves one client until it leaves, sends a request that is refused, or is idle too long.

    None of the client's headers reaches the node, so the token does not either; only that of a stream does. The answer
    has only status and body.
    """

    def __init__(self, client: socket.socket, limit: ConnectionLimit, port: int, token: str, endpoint: Path) -> None:
        self._client, self._limit, self._endpoint = client, limit, endpoint
        self._token = token.encode()
        self._hosts = (f"{HOST}:{port}", f"localhost:{port}")
        self._reader = Reader(client)
        self._to_node: Connection | None = None
        self._last_used = 0.0

    def serve(self) -> None:
        """Return when the connection is over; the caller closes it."""
        idle_s = UNAUTHENTICATED_S
        try:
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._answer_one(idle_s):
                idle_s = IDLE_S
        except Rejected as rejected:
            self._refuse(rejected)
        except (TimeoutError, Closed, OSError):
            pass  # the client or the node has gone: the connection ends, as on the Unix socket
        finally:
            self._limit.remove(self._client)
            if self._to_node is not None:
                self._to_node.close()

    def _answer_one(self, idle_s: float) -> bool:
        """Serve one request; return whether another may follow."""
        head = self._reader.read_head(idle_s)
        if head is None:
            return False
        self._check_caller(head)
        if head.target == STREAM:
            self._carry_stream(head)
            return False
        self._check_call(head)
        body = self._read_body(head)
        if body is None:
            return False
        self._limit.mark_busy(self._client)
        status, answer = self._forward(body)
        stays_open = head.stays_open and status == HTTPStatus.OK
        self._client.settimeout(SEND_S)
        self._client.sendall(_answer(status, answer, stays_open=stays_open))
        self._limit.mark_idle(self._client)
        return stays_open

    def _carry_stream(self, head: Head) -> None:
        """Pass a request for a stream on, and then the bytes of the stream. Returns at its end."""
        size, token = head.headers.get("content-length", "0"), head.headers.get(STREAM_TOKEN, "")
        if head.method != "POST" or head.headers.get("upgrade") != PROTOCOL or not re.fullmatch("[0-9a-f]{64}", token):
            raise Rejected(400, f"a stream needs POST, Upgrade: {PROTOCOL} and CodeSmith-Token")
        if "transfer-encoding" in head.headers or size != "0" or self._reader.has_more:
            raise Rejected(400, "nothing may follow a request for a stream before its answer")
        self._limit.mark_busy(self._client)
        deadline = time.monotonic() + UPGRADE_S
        try:
            stream = self._connect(deadline).upgrade(STREAM, PROTOCOL, {"CodeSmith-Token": token}, deadline)
        except NotSwitched as refusal:
            self._client.sendall(_answer(refusal.status, refusal.body, stays_open=False))
            return
        except BadAnswer as error:
            raise Rejected(502, f"the node's answer is not HTTP: {error}") from None
        with stream:
            self._client.sendall(SWITCHED)
            splice(self._client, stream)

    def _check_caller(self, head: Head) -> None:
        """Raise Rejected unless the request has the right host, origin and token."""
        headers = head.headers
        if headers.get("host", "").lower() not in self._hosts:
            raise Rejected(403, f"Host must be {self._hosts[0]}: pages under another name are refused")
        if headers.get("origin", f"http://{self._hosts[0]}") not in [f"http://{host}" for host in self._hosts]:
            raise Rejected(403, "web pages of another origin are refused")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise Rejected(401, "no valid token", hint="inv node.status --json  # token_file is what to send as Bearer")

    def _check_call(self, head: Head) -> None:
        """Raise Rejected unless the request is a call."""
        headers = head.headers
        if head.target != "/":
            raise Rejected(404, f"there are only / and {STREAM}")
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

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        """Return the answer of the Unix socket; a call is sent only once, also when that fails."""
        deadline = time.monotonic() + ANSWER_S
        if self._to_node is not None and (self._to_node.is_stale or time.monotonic() - self._last_used > KEEP_S):
            self._to_node.close()
            self._to_node = None
        if self._to_node is None:
            self._to_node = self._connect(deadline)
        try:
            status, answer, stays_open = self._to_node.post(body, deadline)
        except BadAnswer as error:
            raise Rejected(502, f"the node's answer is not HTTP: {error}") from None
        self._last_used = time.monotonic()
        if not stays_open:
            self._to_node.close()
            self._to_node = None
        return status, answer

    def _connect(self, deadline: float) -> Connection:
        try:
            return Connection(self._endpoint, deadline)
        except OSError as error:
            raise Rejected(
                503, f"the node's endpoint is not available now: {error.strerror}", hint="inv node.status"
            ) from None

    def _refuse(self, rejected: Rejected) -> None:
        kind = AuthenticationFailed if rejected.status == HTTPStatus.UNAUTHORIZED else CodeSmithError
        headers = {401: "WWW-Authenticate: Bearer\r\n", 405: "Allow: POST\r\n"}.get(rejected.status, "")
        refuse(self._client, kind(rejected.problem, hint=rejected.hint), rejected.status, headers)


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
