"""A proxy in this process on a real socket, and real servers; only names and forbidden addresses are the test's."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.egress.denied import DeniedHosts
from agent.egress.policy import PolicyFile
from agent.egress.server import Limits, Server

HINT = "inv sandbox.update demo --allow {host}"


class Proxy:
    """The proxy, what it goes by, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, list[str]] = {"web.example": ["127.0.0.1"]}
        self.resolved: list[str] = []
        # Loopback is where the servers of these tests are: the real rule is tested in test_addresses.py and below.
        self.never = {ipaddress.ip_address("127.0.0.66")}
        self.limits = Limits()
        # What resolves names; a test may replace it.
        self.answer = self.resolve
        self.sockets: list[socket.socket] = []
        self.allow()

    def allow(self, *hosts: str, deny: tuple[str, ...] = (), mode: str = "list") -> None:
        """Replace the policy as the helper does."""
        policy = {"workspace": "demo", "mode": mode, "allow": hosts, "deny": deny, "hint": HINT}
        self.write_policy(json.dumps(policy))

    def write_policy(self, text: str) -> None:
        new = self.folder / "policy.new"
        new.write_text(text)
        os.replace(new, self.folder / "policy.json")

    def resolve(self, name: str) -> list[str]:
        self.resolved.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.names[name]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = listening.getsockname()[1]
        policy = PolicyFile(str(self.folder), lambda address: address in self.never)
        server = Server(listening, policy, DeniedHosts(str(self.folder)), lambda name: self.answer(name), self.limits)
        loop = asyncio.new_event_loop()
        serving = loop.create_task(server.serve())

        def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(serving)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
        loop.close()
        listening.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.sockets.append(connection)
        return connection

    def ask(self, text: str | bytes) -> bytes:
        """Send this and return all that comes."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                connection.sendall(text.encode("latin-1") if isinstance(text, str) else text)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while data := connection.recv(65536):
                    answer += data
            return answer

    def get(self, url: str, *headers: str, host: str | None = None, version: str = "1.1") -> bytes:
        host = url.split("/")[2] if host is None else host
        return self.ask("\r\n".join([f"GET {url} HTTP/{version}", f"Host: {host}", *headers, "", ""]))

    def tunnel(self, target: str) -> tuple[int, socket.socket]:
        """CONNECT, and return the status and the connection."""
        connection = self.connect()
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return int(head_of(connection).split()[1]), connection

    def socks(self, kind: int, address: bytes, port: int, command: int = 1) -> tuple[int, socket.socket]:
        """Ask by SOCKS5, and return the reply and the connection."""
        connection = self.connect()
        connection.sendall(b"\x05\x01\x00")
        assert exactly(connection, 2) == b"\x05\x00"
        connection.sendall(bytes((5, command, 0, kind)) + address + port.to_bytes(2, "big"))
        return exactly(connection, 10)[1], connection

    def socks_name(self, name: str, port: int) -> tuple[int, socket.socket]:
        return self.socks(3, bytes((len(name),)) + name.encode(), port)

    def denied(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self.folder / "denied.json").read_text())
        except FileNotFoundError:
            return []
        return found


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def head_of(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(connection, 1)
    return head


class Peer:
    """A real server: each connection is served by a function in a thread."""

    def __init__(self, serve: Callable[[socket.socket], object], address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listening = socket.create_server((address, 0), family=family, backlog=2048)
        self.port = self.listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._serve, self._threads = serve, [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection)
        connection.close()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        # First this thread: it may hold a connection that is not among the others yet.
        self._threads[0].join()
        self.listening.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def echo(connection: socket.socket) -> None:
    """Send back what comes, and end when it ends."""
    while data := connection.recv(65536):
        connection.sendall(data)


class WebServer(Peer):
    """Keeps what it was sent; answers each request, also a second one on its connection, as an ordinary server does."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
        super().__init__(self._web)

    def _web(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        file = connection.makefile("rb")
        with file:
            while head := b"".join(iter(file.readline, b"\r\n")) if file.peek(1) else b"":
                body = b""
                lower = head.lower()
                if found := re.search(rb"content-length: *([0-9]+)", lower):
                    body = file.read(int(found[1]))
                    if len(body) < int(found[1]):
                        return
                elif b"transfer-encoding:" in lower:
                    while not body.endswith(b"0\r\n\r\n"):
                        line = file.readline()
                        if not line:
                            return
                        body += line
                self.requests.append(head + b"\r\n" + body)
                connection.sendall(self.answer)
                if b"connection: close" in lower:
                    return


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path)
    with proxy.running():
        yield proxy
        for connection in proxy.sockets:
            connection.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def echoing() -> Iterator[Peer]:
    server = Peer(echo)
    yield server
    server.close()
