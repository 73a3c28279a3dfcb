"""Answer a local connection that cannot reach the agent: HTTP 503 with the typed reason."""

from __future__ import annotations

import json
import socket

from codesmith.errors import CodeSmithError
from codesmith.tunnel.state import error_to_dict

DRAIN_S = 2.0
DRAIN_BYTES = 1024 * 1024


def refuse(local: socket.socket, error: CodeSmithError) -> None:
    """Send the reason, then read what the client still sends, so that it finds the answer and no broken pipe."""
    body = json.dumps({"error": error_to_dict(error)}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nServer: codesmith-forwarder\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        local.settimeout(DRAIN_S)
        local.sendall(head.encode() + body)
        local.shutdown(socket.SHUT_WR)
        left = DRAIN_BYTES
        while left > 0 and (data := local.recv(65536)):
            left -= len(data)
    except OSError:
        pass  # gone: nobody to tell
