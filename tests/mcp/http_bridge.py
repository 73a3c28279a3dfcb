"""Streamable HTTP in front of MCP servers on standard input and output, for clients that know only a URL.

Each session, which begins with `initialize`, has a process of its own, which DELETE ends. Requests of the 2026-07-28
revision, which have no session and say their revision themselves, share one. A request is answered with one event for
each message up to its response. Messages are passed on as they are.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ANSWER_S = 60
SESSION = "Mcp-Session-Id"
REVISION, STATELESS = "MCP-Protocol-Version", "2026-07-28"
STATUS = {-32601: 404, -32602: 400, -32020: 400, -32021: 400, -32022: 400}
# Says to a process at once that its clients speak that revision.
DISCOVER = {
    "jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": {"name": "bridge", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }},
}  # fmt: skip


class Process:
    """One server; answers are told apart by ids of the bridge, since clients without a session may use the same."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self._ids, self._lock = itertools.count(1), threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message that has no answer."""
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps(message) + "\n")

    def ask(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Send a request; yield what comes meanwhile, and its response at last."""
        own, answers = next(self._ids), queue.SimpleQueue[dict[str, Any] | None]()
        self._waiting[own] = answers
        try:
            self.send({**message, "id": own})
            while (said := answers.get(timeout=ANSWER_S)) is not None:
                if "method" not in said:
                    yield {**said, "id": message["id"]}
                    return
                yield said
        finally:
            del self._waiting[own]

    def end(self) -> None:
        """Close its input, and wait until it has ended."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(ANSWER_S) == 0
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                # What is no answer is about one of the requests; which one, standard output does not say.
                to = [self._waiting[said["id"]]] if "method" not in said else list(self._waiting.values())
                for one in to:
                    one.put(said)
        for one in list(self._waiting.values()):
            one.put(None)


class Bridge(http.server.ThreadingHTTPServer):
    """Serves on a free port of loopback; `url` is what a client needs."""

    daemon_threads = False

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/mcp"
        self._argv, self._environment, self._lock = argv, environment, threading.Lock()
        self._sessions: dict[str, Process] = {}

    def session(self, name: str) -> Process:
        """Return the server of a session; the first time it is started."""
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Process(self._argv, self._environment)
                if not name:
                    list(self._sessions[name].ask(DISCOVER))
            return self._sessions[name]

    def knows(self, name: str) -> bool:
        """Tell whether there is such a session."""
        return name in self._sessions

    def end(self, name: str) -> None:
        """End a session and its server."""
        with self._lock:
            self._sessions.pop(name).end()

    def end_all(self) -> None:
        """End all that there are."""
        for name in list(self._sessions):
            self.end(name)


class Handler(http.server.BaseHTTPRequestHandler):
    """POST carries a message, DELETE ends a session; there is no stream of its own, so GET is not allowed."""

    server: Bridge
    protocol_version = "HTTP/1.1"
    sessions = itertools.count(1)

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.headers.get(SESSION, "")
        if message.get("method") == "initialize" and self.headers.get(REVISION) != STATELESS:
            name = f"session-{next(self.sessions)}"
            self.server.session(name)
        if name and not self.server.knows(name):
            self.answer(404)
        elif "id" not in message or "method" not in message:
            self.server.session(name).send(message)
            self.answer(202)
        else:
            self.stream(name, self.server.session(name).ask(message))

    def do_DELETE(self) -> None:
        name = self.headers.get(SESSION, "")
        if self.server.knows(name):
            self.server.end(name)
            self.answer(200)
        else:
            self.answer(404)

    def do_GET(self) -> None:
        self.answer(405)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def stream(self, name: str, messages: Iterator[dict[str, Any]]) -> None:
        first = next(messages)
        # Without a session an error has a status of HTTP besides.
        status = STATUS.get(first.get("error", {}).get("code"), 200) if not name else 200
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if status == 200 else "application/json")
        self.send_header("Connection", "close")
        if name:
            self.send_header(SESSION, name)
        self.end_headers()
        if status != 200:
            self.wfile.write(json.dumps(first).encode())
            return
        for message in itertools.chain([first], messages):
            self.wfile.write(f"event: message\ndata: {json.dumps(message)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def bridge(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[Bridge]:
    """Serve a command as HTTP for the life of this block."""
    with Bridge(argv, environment) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.end_all()
