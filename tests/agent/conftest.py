"""A front end on a real Unix socket; only the root half is a stand-in (the real one is tested on nodes)."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import http_server, scoped
from agent.frontend.audit import Audit
from agent.frontend.context import Context
from agent.frontend.dispatch import Dispatcher
from agent.frontend.helper_client import Helper
from agent.frontend.jsonrpc import CachedJson
from agent.frontend.store import Store
from agent.helper.trees import trees
from agent.methods import METHODS
from agent.shared import framing
from agent.shared.errors import AgentError

CONTRACT = json.loads((Path(__file__).parents[2] / "agent" / "openrpc.json").read_text())
DECLARED = {method["name"]: {error["code"] for error in method["errors"]} for method in CONTRACT["methods"]}


class StandInHelper:
    """Answers verbs on a real socket as the root half would, from memory; `refusals` makes a verb fail."""

    def __init__(self, path: Path) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, AgentError | None] = {}
        # What happens on the node when a verb is carried out.
        self.works: dict[str, Callable[[], object]] = {}
        self.is_made = False
        self.shares: set[tuple[str, str]] = set()
        self.identity = "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0001"
        self._held_back = ""
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._folder = path.parent
        self._runtimes: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, args=(self._listening,))]
        self._threads[0].start()

    def close(self) -> None:
        for listening in (self._listening, *self._runtimes):
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        for thread in self._threads:
            thread.join()

    def hold_back(self, verb: str) -> None:
        """Answer this verb when the gate is opened; others at once, `entered` or not."""
        self._held_back = verb
        self.gate.clear()

    def wait_for(self, verb: str) -> None:
        """Return when this verb has been asked for."""
        deadline = time.monotonic() + 10
        while verb not in [called for called, _ in self.calls]:
            assert time.monotonic() < deadline, f"{verb} did not come"

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            message = as_verb(framing.receive(connection, framing.REQUEST_MAX))
            if message["verb"] == "runtime.start":
                self._start_runtime(message["arguments"]["workspace"])
                self.reply(connection, message)
                continue
            self.calls.append((message["verb"], message["arguments"]))
            if message["verb"] == self._held_back:
                threading.Thread(target=self._wait_and_reply, args=(connection, message)).start()
            elif self._held_back or message["verb"] == "user.drift":  # a look waits for no change
                self.reply(connection, message)
            else:
                self._wait_and_reply(connection, message)

    def _start_runtime(self, workspace: str) -> None:
        """Listen on the socket of a workspace's runtime; its requests count as verbs, git requests as repo.ACTION."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (self._folder / f"{workspace}.sock").unlink(missing_ok=True)
        listening.bind(str(self._folder / f"{workspace}.sock"))
        listening.listen()
        self._runtimes.append(listening)
        self._threads.append(threading.Thread(target=self._serve, args=(listening,)))
        self._threads[-1].start()

    def _wait_and_reply(self, connection: socket.socket, message: dict[str, Any]) -> None:
        self.entered.set()
        self.gate.wait(10)
        self.reply(connection, message)

    def reply(self, connection: socket.socket, message: dict[str, Any]) -> None:
        self.works.pop(message["verb"], lambda: None)()
        with connection:
            refusal = self.refusals.get(message["verb"])
            if refusal is not None:
                framing.send(connection, {"error": refusal.to_dict()})
            elif message["verb"] not in self.refusals:  # None: break off without an answer
                framing.send(connection, {"result": self.answer(message["verb"], message["arguments"])})

    def answer(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        name = arguments.get("name", "")
        if verb == "user.ensure":
            return self._account(name)
        if verb == "user.drift":
            return {"drift": {}}
        if verb == "node.check_door":
            return {"open": True, "problems": []}
        if verb == "workspace.ensure":
            user = arguments["user"]
            account = self._account(user) if arguments["dedicated"] else None
            return {
                "id": self.identity, "name": name, "path": f"/srv/codesmith/workspaces/{name}",
                "home": f"/srv/codesmith/home/cs-{name}", "user": user, "login": f"cs-{name}",
                "uid": 70000, "gid": 70000,
                "created_at": "2026-11-23T00:00:00.000Z", "account": account,
            }  # fmt: skip
        if verb in ("workspace.assign", "workspace.share", "workspace.unshare"):
            change = self.shares.add if verb == "workspace.share" else self.shares.discard
            change((name, arguments["user"]))
            return {"shared_with": sorted(user for workspace, user in self.shares if workspace == name)}
        ended = {"exit_code": 0, "signal": None, "killed_by": None, "duration_s": 0.1}
        if verb == "exec":
            outputs = {"stdout": " ".join(arguments["argv"]), "stderr": ""}
            return {**ended, **outputs, "stdout_encoding": "text", "stderr_encoding": "text", "omitted_bytes": 0}
        if verb in ("start", "status"):
            return {"since": "2026-11-23T00:00:00.000Z", "processes": 0, "idle_stop_at": "2026-11-23T00:05:00.000Z"}
        if verb == "workspace.measure":
            return {"disk_bytes": 61440, "files": 13}
        head = {
            "branch": "main",
            "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8",
            "left_out": [],
            "ahead": 0,
            "behind": 0,
        }
        if verb in ("repo.clone", "repo.init"):
            return {**ended, "answer": json.dumps({"repo": head})}
        if verb == "repo.read":
            return {**ended, "answer": json.dumps({"repos": dict.fromkeys(arguments["names"], head)})}
        if verb == "repo.settle":
            return {"is_made": self.is_made}
        if verb == "sandbox.ensure":
            return {"enforced": dict.fromkeys(arguments["limits"], True), "network": arguments["network"]}
        if verb == "sandbox.change":
            limits = {name: one for name, one in arguments["limits"].items() if one is not None}
            network = arguments["network"] or "full"
            return {"limits": limits, "network": network, "enforced": dict.fromkeys(limits, True)}
        if verb == "node.inspect":
            return {"users": {}, "workspaces": {}, "shares": {}, "sandboxed": [], "findings": [], "more": 0}
        if verb == "workspace.remove":
            return {"leftovers": [], "user_removed": arguments["remove_user"]}
        if verb in ("user.put_keys", "user.enable", "user.disable"):
            return {"shell": self._account(arguments["name"])["shell"]}
        return {"leftovers": []} if verb == "user.remove" else {}

    def _account(self, name: str) -> dict[str, Any]:
        home, shell = "/srv/codesmith/empty", "/usr/lib/codesmith/enter"
        return {"login": f"cs-{name}", "uid": 70000, "gid": 70000, "home": home, "shell": shell}


def as_verb(message: dict[str, Any]) -> dict[str, Any]:
    """Return a request to a runtime as if it were a verb of the helper."""
    if "protocol" not in message:
        return message
    arguments = {key: value for key, value in message.items() if key not in ("protocol", "request")}
    if message["request"] == "git":
        return {"verb": f"repo.{arguments['job_request']['action']}", "arguments": arguments["job_request"]}
    return {"verb": message["request"], "arguments": arguments}


class Rpc:
    """Talks to the front end's socket; a test reads like a conversation."""

    def __init__(self, path: Path, helper: StandInHelper, audit: Path, store: Store, dispatcher: Dispatcher) -> None:
        self.path, self.helper, self.audit, self.store, self.dispatcher = path, helper, audit, store, dispatcher
        self.connections: Any = None
        # How long anything may keep us waiting.
        self.patience_s = 20.0

    def call(self, method: str, **params: Any) -> Any:
        answer = self.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert "error" not in answer, answer
        return answer["result"]

    def refuses(self, method: str, code: int, **params: Any) -> dict[str, Any]:
        answer = self.answer({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        assert answer.get("error", {}).get("code") == code, answer
        assert answer["id"] == 7
        assert answer["error"]["data"]["kind"]
        assert code in DECLARED.get(method, ()) or code <= -32600, "the contract does not say so"
        return answer["error"]

    def answer(self, request: Any) -> Any:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        status, text = self.post(body)
        assert status == 200, (status, text)
        return json.loads(text) if text else None

    def post(self, body: bytes, *headers: str) -> tuple[int, bytes]:
        head = ["POST / HTTP/1.1", "Host: node", f"Content-Length: {len(body)}", "Connection: close", *headers]
        return self.raw("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def raw(self, data: bytes) -> tuple[int, bytes]:
        with self.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.patience_s)
        connection.connect(str(self.path))
        return connection

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
def rpc(tmp_path: Path) -> Iterator[Rpc]:
    yield from serve(tmp_path)


def serve(folder: Path) -> Iterator[Rpc]:
    """Serve a front end whose files are in `folder`."""
    for name in ("agent.sock", "helper.sock"):
        (folder / name).unlink(missing_ok=True)
    helper = StandInHelper(folder / "helper.sock")
    store = Store(str(folder / "state.db"))
    audit = str(folder / "audit.jsonl")
    context = Context(
        store,
        Helper(str(folder / "helper.sock")),
        CachedJson(CONTRACT),
        audit,
        node_id="node",
        build="",
        runtimes_folder=str(folder),
    )
    dispatcher = Dispatcher(METHODS, context, Audit(audit))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(folder / "agent.sock"))
    listening.listen(1024)
    front = http_server.Server(listening, dispatcher)
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    rpc = Rpc(folder / "agent.sock", helper, folder / "audit.jsonl", store, dispatcher)
    rpc.connections = front.connections
    with scoped_socket(folder, dispatcher):
        yield rpc
    front.shutdown()
    thread.join()
    listening.close()
    helper.gate.set()
    helper.close()
    context.job_watch.close()
    store.close()


@contextmanager
def scoped_socket(folder: Path, dispatcher: Dispatcher) -> Iterator[None]:
    """Serve the socket of tokens beside the operators'."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        (folder / "scoped.sock").unlink(missing_ok=True)
        listening.bind(str(folder / "scoped.sock"))
        listening.listen(1024)
        server = scoped.ScopedServer(listening, dispatcher)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root-owned folder with homes, staging and trash in it (/tmp will not do: anyone may write there)."""
    top = Path(f"/run/codesmith-test-{secrets.token_hex(4)}")
    for name in ("homes", "staging", "trash"):
        (top / name).mkdir(parents=True)
    monkeypatch.setattr(trees, "STAGING", str(top / "staging"))
    monkeypatch.setattr(trees, "TRASH", str(top / "trash"))
    yield top
    subprocess.run(["rm", "-rf", "--", top], check=True)
