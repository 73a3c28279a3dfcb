"""Somebody with the secret of a token, at the socket of tokens."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from typing import Any

from tests.agent.conftest import Rpc


class Holder:
    """Somebody who has a secret, and talks to scoped.sock."""

    def __init__(self, rpc: Rpc, secret: str, token: str) -> None:
        self.rpc, self.secret, self.id = rpc, secret, token

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.rpc.patience_s)
        connection.connect(str(self.rpc.path.parent / "scoped.sock"))
        return connection

    def post(self, request: Any, *headers: str, path: str = "/") -> tuple[int, Any]:
        body = json.dumps(request).encode()
        shown = headers or (f"Authorization: Bearer {self.secret}",)
        lines = [f"POST {path} HTTP/1.1", "Host: n", f"Content-Length: {len(body)}", "Connection: close", *shown]
        with self.connect() as connection:
            connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        self.head = head.decode()
        return int(head.split()[1]), json.loads(body) if body else None

    def asks(self, method: str, **params: Any) -> Any:
        status, answer = self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert status == 200, answer
        return answer

    def gets(self, method: str, **params: Any) -> Any:
        answer = self.asks(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def is_refused(self, method: str, **params: Any) -> str:
        return str(self.asks(method, **params)["error"]["data"]["kind"])


def make(rpc: Rpc, workspace: str = "demo", **more: Any) -> Holder:
    secret = secrets.token_hex(32)
    made = rpc.call("token.create", workspace=workspace, token_sha256=sha256(secret), **more)
    return Holder(rpc, secret, made["id"])


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
