"""A client without a library, for what the agent and the way to it cost by themselves."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from codesmith.errors import CodeSmithError

HEAD = b"POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Caller:
    """A raw client of one local socket that makes one call again and again."""

    def __init__(self, path: Path, method: str = "node.version", **params: object) -> None:
        self._path = path
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        self._request = HEAD % len(body) + body
        self._open()

    def call(self) -> float:
        """Return the seconds of one call on the open connection."""
        begun = time.perf_counter()
        self._call()
        return time.perf_counter() - begun

    def reconnect_and_call(self) -> float:
        """Return the seconds of connecting and one call."""
        self.close()
        begun = time.perf_counter()
        self._open()
        self._call()
        return time.perf_counter() - begun

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(os.fspath(self._path))

    def _call(self) -> None:
        self._socket.sendall(self._request)
        head, data = b"", b""
        while not head or len(data) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            chunk = self._socket.recv(65536)
            if not chunk:
                raise CodeSmithError(f"{self._path} closed the connection after {data[:200]!r}")
            data += chunk
            if not head and b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
        if b'"result"' not in data:
            raise CodeSmithError(f"{self._path} answered {data[:200]!r}")
