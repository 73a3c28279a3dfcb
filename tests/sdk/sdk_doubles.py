"""The other end of the client's socket: a scripted one for what no agent does, and the agent's real front end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A user, as the agent lists it.
USER = {
    "name": "ada",
    "login": "cs-ada",
    "uid": 70000,
    "gid": 70000,
    "home": "/srv/codesmith/home/cs-ada",
    "shell": "/bin/bash",
    "state": "active",
    "ssh_keys": [],
    "workspaces": ["a", "b\t\x1b[31m"],
    "created_at": "2026-11-23T00:00:00.000Z",
}


def http(body: Any, *, status: str = "200 OK", headers: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


def result(value: Any) -> Any:
    """Answer a request with `value`."""
    return lambda request: http({"jsonrpc": "2.0", "id": request["id"], "result": value})


def error(code: int, message: str, **data: Any) -> Any:
    return lambda request: http(
        {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message, "data": data}}
    )


class Scripted:
    """Answers the n-th request with the n-th line of its script: a function of the request, bytes, or None to hang up.

    `hang_up_after` ends the connection behind an answer, as an idle time-out does.
    """

    def __init__(self, path: Path, script: list[Any], hang_up_after: set[int]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.idle_closed, self.was_called = threading.Event(), threading.Event()
        self._script, self._hang_up_after = list(script), hang_up_after
        self._listening = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listening.bind(str(path))
        self._listening.listen(8)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            with _quiet():
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            with connection, _quiet():
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        while (request := _read_request(connection)) is not None:
            self.requests.append(request)
            self.was_called.set()
            number = len(self.requests)
            answer = self._script.pop(0)
            if answer is None:
                return
            connection.sendall(answer(request) if callable(answer) else answer)
            if number in self._hang_up_after:
                connection.close()
                self.idle_closed.set()
                return


@contextmanager
def scripted(path: Path, *script: Any, hang_up_after: tuple[int, ...] = ()) -> Iterator[Scripted]:
    server = Scripted(path, list(script), set(hang_up_after))
    try:
        yield server
    finally:
        server.close()


@contextmanager
def real_agent(path: Path, folder: Path) -> Iterator[None]:
    """Serve the agent's own front end, with its own store and without a helper: it can read, not change."""
    from agent.frontend.audit import Audit
    from agent.frontend.context import Context
    from agent.frontend.dispatch import Dispatcher
    from agent.frontend.helper_client import Helper
    from agent.frontend.http_server import Server
    from agent.frontend.store import Store
    from agent.methods import METHODS

    contract = json.loads((Path(__file__).parents[2] / "agent" / "openrpc.json").read_text())
    context = Context(Store(str(folder / "state.db")), Helper(str(folder / "no.sock")), contract)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(8)
    server = Server(listening, Dispatcher(METHODS, context, Audit(str(folder / "audit.jsonl"))))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read_request(connection: socket.socket) -> dict[str, Any] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n"), head
    length = int(
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split(b":")[1]
    )
    while len(body) < length:
        chunk = connection.recv(65536)
        if not chunk:  # it was cut off
            return None
        body += chunk
    return json.loads(body)


class _quiet:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def refuse_to_ensure():
    raise AssertionError("the endpoint answers: nothing is to be started")


def look(transport, **params):
    return transport.call("node.version", params, changes=False)


def change(transport, **params):
    return transport.call("user.create", params, changes=True)


@contextmanager
def crowd(path, talk):
    """Serve each connection by `talk`, in its own thread."""
    threads = []

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=[connection]))
            threads[-1].start()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(8)
        threads.append(threading.Thread(target=serve))
        threads[0].start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
