"""Refuse every request that does not come from one of our own pages; add the headers that keep those pages closed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codesmith.ui.access import Access

SECRET = "codesmith-ui"  # the header with the page's secret; its name, not a secret  # noqa: S105
ENTER = "/enter"
BODY_BYTES_MAX = 256 << 10  # as the agent's own
# What a page may do: load our own modules and styles, call its own origin, and nothing else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), display-capture=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# A second one of these would let two readers see two different requests.
SINGLE = ("host", "origin", "content-type", "content-length", "transfer-encoding", "sec-fetch-site", SECRET)


class Refused(Exception):
    """The request is refused with `status`."""

    def __init__(self, status: int, problem: str) -> None:
        self.status, self.problem = status, problem
        super().__init__(problem)


class Guard:
    """Stands before the application. `last_request` is a time of time.monotonic(), for the idle end."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self.last_request = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_closed(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                theirs = [(name, value) for name, value in message.get("headers", []) if name.decode() not in HEADERS]
                message = {**message, "headers": [*theirs, *ours]}
            await send(message)

        try:
            check(scope["method"], scope["path"], _headers(scope), self._access)
        except Refused as refused:
            await _refuse(send_closed, refused)
            return
        self.last_request = time.monotonic()
        await self._app(scope, receive, send_closed)


def check(method: str, path: str, headers: Mapping[str, str], access: Access) -> None:
    """Raise Refused unless the request is one that our own page sends."""
    # An exact list: a name that somebody points at 127.0.0.1 (DNS rebinding) is not on it.
    if headers.get("host") != access.host:
        raise Refused(421, f"this server is {access.host}, and nothing else")
    if method not in ("GET", "HEAD", "POST"):
        raise Refused(405, f"no {method} here")
    origin = headers.get("origin")
    if origin is not None and origin != access.origin:
        raise Refused(403, "a page of another origin")
    if method != "POST":
        return  # no GET changes or tells anything: pages are empty until their script has asked with its secret
    if origin is None:
        raise Refused(403, "a request without Origin")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused(403, "a page of another site")
    if not re.fullmatch(r"application/json(; ?charset=utf-8)?", headers.get("content-type", ""), re.IGNORECASE):
        raise Refused(415, "the body is application/json and nothing else")
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or not re.fullmatch("[0-9]{1,9}", length):
        raise Refused(411, "the body needs a Content-Length, and no Transfer-Encoding")
    if int(length) > BODY_BYTES_MAX:
        raise Refused(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
    if path != ENTER and not access.is_page(headers.get(SECRET, "")):
        raise Refused(401, "no access: open the pages with `inv ui.open`")


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; one that is there twice and may not is as good as a wrong one."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found and name in SINGLE else value
    return found


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps({"error": {"kind": "Refused", "problem": refused.problem, "hint": ""}}).encode()
    # The body of the request is not read, so the connection is of no further use.
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
