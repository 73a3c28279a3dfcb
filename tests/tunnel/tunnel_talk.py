"""Helpers that call through an endpoint, and wait for a condition."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from pathlib import Path

from codesmith.tunnel import control


def threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the new threads, the stand-in agent's own left out."""
    return [thread for thread in set(threading.enumerate()) - before if "(talk)" not in thread.name]


class Caller(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path | str, timeout: float = 30) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = connect(self._path, self.timeout)

    def post(self, path: str = "/", body: bytes = b"{}") -> tuple[int, bytes]:
        self.request("POST", path, body=body)
        response = self.getresponse()
        return response.status, response.read()


def connect(path: Path | str, timeout: float = 30) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def post(path: Path | str, to: str = "/", body: bytes = b"{}", timeout: float = 30) -> tuple[int, bytes]:
    """Call once on a new connection."""
    caller = Caller(path, timeout)
    try:
        return caller.post(to, body)
    finally:
        caller.close()


def version(path: Path | str) -> str:
    """Return the node id that answers at the endpoint."""
    status, body = post(path, body=b'{"jsonrpc": "2.0", "id": 1, "method": "node.version", "params": {}}')
    assert status == 200, body
    return json.loads(body)["result"]["node_id"]


def refusal(path: Path | str) -> dict[str, str]:
    """Return the typed reason of a 503."""
    status, body = post(path)
    assert status == 503, body
    return json.loads(body)["error"]


def echo(path: Path | str, payload: bytes) -> bytes:
    """Send raw bytes, half-close, return all that comes back."""
    with connect(path) as sock:
        got = bytearray()
        reader = threading.Thread(target=lambda: got.extend(read_all(sock)))
        reader.start()
        sock.sendall(b"RAW\n" + payload)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    return bytes(got)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def state(name: str = ""):
    """Return the state of the forwarder's only endpoint, or of one of several."""
    (found,) = [one for one in control.status() if not name or one.name == name]
    return found


def is_ready(name: str = "") -> bool:
    return state(name).state == "ready"


@contextlib.contextmanager
def stopped(pid: int):
    """A process that hangs; it is ended afterwards if it still runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
