"""A stand-in for an agent with streams: answers calls by method, and gives each stream to the next line of a script."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, POSITION, REFUSAL = range(10)
TOKEN = "ab" * 32
JOB = {
    "id": "4be1f0c29a77",
    "workspace": "demo",
    "name": None,
    "argv": ["make"],
    "state": "running",
    "exit_code": None,
    "signal": None,
    "killed_by": None,
    "tty": False,
    "ends_with_stream": False,
    "started_at": "2026-11-23T00:00:00.000Z",
    "ended_at": None,
    "stdout_bytes": 0,
    "stderr_bytes": 0,
    "by": "root",
}
RUN = {**JOB, "state": "waiting", "stream": {"token": TOKEN, "expires_at": "2026-11-23T00:01:00.000Z"}}
Play = Callable[["Frames"], None]


class Frames:
    """The server's side of one stream."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, kind: int, payload: bytes | dict[str, Any] = b"") -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.connection.sendall(struct.pack(">BI", kind, len(data)) + data)

    def end(self, exit_code: int | None = 0, **fields: Any) -> None:
        end = {"state": "exited", "exit_code": exit_code, "signal": None, "killed_by": None, "duration_s": 0.5}
        self.send(END, {**end, **fields})

    def receive(self) -> tuple[int, bytes]:
        """Return the next frame but signs of life; ConnectionError at the end of the connection."""
        while True:
            kind, size = struct.unpack(">BI", self._exactly(5))
            payload = self._exactly(size)
            if kind != PONG:
                return kind, payload

    def receive_input(self) -> bytes:
        """Return the input up to its end."""
        data = b""
        while True:
            kind, payload = self.receive()
            if kind == INPUT and not payload:
                return data
            if kind == INPUT:
                data += payload

    def await_drop(self) -> None:
        """Return when the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.receive()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.connection.recv(size - len(data))
            if not chunk:
                raise ConnectionError
            data += chunk
        return data


class StandIn:
    """Serves a Unix socket until `close`. `calls` are the (method, params) so far, `posts` the calls of each body."""

    def __init__(self, path: Path, plays: tuple[Play, ...], answers: dict[str, Any]) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.posts: list[int] = []
        self.errors: list[BaseException] = []
        self.answers = {
            "job.start": RUN,
            "job.attach": RUN["stream"],
            "job.get": JOB,
            "workspace.list": [],
            "user.list": [],
            **answers,
        }
        self._plays, self._lock = list(plays), threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listening.bind(str(path))
        self._listening.listen(8)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    chunk = connection.recv(1)
                    if not chunk:
                        return
                    head += chunk
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
                body = b""
                while len(body) < int(fields["Content-Length"]):
                    chunk = connection.recv(65536)
                    if not chunk:  # it was cut off
                        return
                    body += chunk
                if head.startswith(b"POST /stream "):
                    assert (fields["Upgrade"], fields["CodeSmith-Token"]) == ("codesmith-stream", TOKEN)
                    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    self._play(Frames(connection))
                    return
                self._answer(connection, json.loads(body))

    def _play(self, frames: Frames) -> None:
        with self._lock:
            play = self._plays.pop(0)
        try:
            play(frames)
        except BrokenPipeError:
            pass  # a client that has seen enough; what it was to read the test itself looks at
        except (ConnectionError, AssertionError) as error:
            self.errors.append(error)

    def _answer(self, connection: socket.socket, body: Any) -> None:
        requests = body if isinstance(body, list) else [body]
        self.posts.append(len(requests))
        values = [self._value(request) for request in requests]
        answers = [
            {"jsonrpc": "2.0", "id": request["id"]}
            | ({"error": value["error"]} if isinstance(value, dict) and "error" in value else {"result": value})
            for request, value in zip(requests, values, strict=True)
        ]
        data = json.dumps(answers if isinstance(body, list) else answers[0]).encode()
        status = values[0].get("status", 200) if isinstance(values[0], dict) else 200
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(data)) + data)

    def _value(self, request: dict[str, Any]) -> Any:
        self.calls.append((request["method"], request["params"]))
        answer = self.answers[request["method"]]
        return answer(request["params"]) if callable(answer) else answer


NO_SANDBOX = {"error": {"code": 1001, "message": "workspace 'demo' has no sandbox", "data": {"kind": "not_found"}}}


def sandbox_that_refused(*hosts: dict[str, Any]) -> dict[str, Any]:
    """Return a sandbox with a list that has refused these hosts."""
    return {
        "workspace": "demo", "limits": {}, "network": {"allow": [], "deny": []}, "enforced": {}, "state": "ready",
        "created_at": "2026-11-22T00:00:00.000Z", "denied": list(hosts),
    }  # fmt: skip


@contextmanager
def stand_in(path: Path, *plays: Play, **answers: Any) -> Iterator[StandIn]:
    """Serve streams, one play each; `job_start=...` answers job.start: a result, {"error": ...} or a function.

    Workspaces have no sandbox, if nothing else is said.
    """
    answers.setdefault("sandbox_get", NO_SANDBOX)
    server = StandIn(path, plays, {name.replace("_", ".", 1): answer for name, answer in answers.items()})
    try:
        yield server
    finally:
        server.close()
    assert server.errors == []
