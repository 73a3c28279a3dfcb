"""A private CodeSmith home per test, and ways to talk through an endpoint."""

from __future__ import annotations

import http.client
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest
from tunnel_doubles import FarEnd

from codesmith.registry import Node
from codesmith.tunnel import control
from codesmith.tunnel.keeper import Keeper


@pytest.fixture
def home(monkeypatch):
    """State and sockets of this test only, under a name short enough for sockets; its forwarder ends with it."""
    with tempfile.TemporaryDirectory(prefix="cs-") as path:
        monkeypatch.setenv("CODESMITH_HOME", path)
        yield Path(path)
        pid = control.ping()
        if pid is not None:
            control.stop()
            eventually(lambda: not is_running(pid), "the forwarder did not end")


@pytest.fixture
def node(tmp_path):
    return Node(name="web1", registry=tmp_path / "nodes.yaml", host="127.0.0.1", port=1, user="root")


@pytest.fixture
def far_end(tmp_path):
    end = FarEnd(tmp_path / "agent.sock")
    end.start()
    yield end
    end.stop()


@pytest.fixture
def keep(home, far_end, node):
    """Start keepers that are stopped at the end of the test, without a thread left."""
    from codesmith.tunnel.endpoint import endpoint_path

    before = set(threading.enumerate())
    keepers = []

    def start(this: Node = node, slots: int = 400) -> Keeper:
        keepers.append(Keeper(this, endpoint_path(this), far_end.opener, threading.BoundedSemaphore(slots)))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.stop()
        keeper.join(5)
    far_end.stop()
    tunnel_threads = lambda: [t for t in set(threading.enumerate()) - before if "talk" not in t.name]  # noqa: E731
    eventually(lambda: not tunnel_threads(), "threads left: %s" % tunnel_threads())


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


def eventually(check, what: str = "", within_s: float = 15.0):
    """Return the first true value of `check`; fail when none comes in time."""
    deadline = time.monotonic() + within_s
    while not (value := check()):
        assert time.monotonic() < deadline, what or f"not within {within_s} s"
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
