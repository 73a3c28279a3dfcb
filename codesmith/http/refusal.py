"""Refuse a local connection: answer with the typed error as JSON, then end the connection."""

from __future__ import annotations

import json
import socket
import time
from http import HTTPStatus

from codesmith.errors import CodeSmithError, error_to_dict

DRAIN_S = 2.0
DRAIN_BYTES = 1024 * 1024


def refuse(local: socket.socket, error: CodeSmithError, status: int = 503, headers: str = "") -> None:
    """Send `error`, then read what the client still sends, so that it gets the answer and not a broken pipe.

    `headers` are further lines, each with its line end. A client that has gone is no error.
    """
    body = json.dumps({"error": error_to_dict(error)}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: codesmith-forwarder\r\n"
        f"Content-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        local.settimeout(DRAIN_S)
        local.sendall(head.encode() + body)
        local.shutdown(socket.SHUT_WR)
        _drain(local)
    except OSError:
        pass  # the client has gone


def _drain(local: socket.socket) -> None:
    left, deadline = DRAIN_BYTES, time.monotonic() + DRAIN_S
    while left > 0 and (left_s := deadline - time.monotonic()) > 0:
        local.settimeout(left_s)
        data = local.recv(65536)
        if not data:
            return
        left -= len(data)
