"""A stand-in for an agent: the real contract and its checks, objects in memory, on the socket where calls look."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from pathlib import Path
from typing import Any

from agent.contract.parameters import ParameterCheck
from agent.shared.errors import InvalidParams
from tests.ui.stand_in_users import Users
from tests.ui.stand_in_work import Refusal, Work

TOP = Path(__file__).resolve().parents[2]
CONTRACT = json.loads((TOP / "agent" / "openrpc.json").read_text())
AT = "2026-11-29T20:53:52.973Z"


class StandIn(Users, Work):
    """One agent. `calls` has the methods that were called; `extra` adds methods: name to (entry, function)."""

    def __init__(self, path: Path, name: str = "web1", extra: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.name, self.path, self.calls, self.requests = name, path, [], []
        added = {method: entry for method, (entry, _) in (extra or {}).items()}
        methods = {**{entry["name"]: entry for entry in CONTRACT["methods"]}, **added}
        self.contract = {**CONTRACT, "methods": list(methods.values())}
        self._extra = {method: function for method, (_, function) in (extra or {}).items()}
        self._checks = {entry["name"]: ParameterCheck(entry["params"]) for entry in self.contract["methods"]}
        self.workspaces: dict[str, dict[str, Any]] = {}
        self.audit: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.denied: list[dict[str, Any]] = []
        self.slow = threading.Event()
        self.slow.set()
        self._numbers, self._open = itertools.count(1), []
        self._lock = threading.Lock()
        self._listening: socket.socket | None = None
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def stop(self) -> None:
        if self._listening is None:
            return
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._listening = None
        self.path.unlink(missing_ok=True)
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._open.clear()

    def add(self, name: str, **more: Any) -> dict[str, Any]:
        """Give the node a workspace, as if somebody else had made it."""
        number = 70000 + next(self._numbers)
        self.users[name] = {
            "name": name, "login": f"cs-{name}", "uid": number, "gid": number, "home": f"/srv/codesmith/home/cs-{name}",
            "shell": "/bin/bash", "state": "active", "ssh_keys": [], "workspaces": [name], "created_at": AT,
        }  # fmt: skip
        self.workspaces[name] = {
            "id": f"00000000-0000-4000-8000-{number:012d}", "name": name, "path": f"/srv/codesmith/workspaces/{name}",
            "user": name, "shared_with": [], "uid": number, "gid": number, "mode": "0700", "state": "ready",
            "labels": {}, "repos": [], "sandbox": None, "created_at": AT, "opened_at": None, "login": f"cs-{name}",
            **more,
        }  # fmt: skip
        self.note("workspace.create", {"name": name})
        return self.workspaces[name]

    def note(self, method: str, target: dict[str, str], outcome: str = "ok", login: str = "root") -> None:
        number = next(self._numbers)
        self.audit.insert(0, {
            "time": AT, "method": method, "request_id": f"r-{number}", "peer_uid": 0, "peer_login": login,
            "target": target, "outcome": outcome, "duration_s": 0.1, "cursor": str(number),
        })  # fmt: skip

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while self._answer(connection, reader):
                    pass
            except OSError:
                pass

    def _answer(self, connection: socket.socket, reader: Any) -> bool:
        line, length, token = reader.readline(), 0, ""
        while header := reader.readline().strip().lower():
            if header.startswith(b"content-length:"):
                length = int(header[15:])
            if header.startswith(b"codesmith-token:"):
                token = header[16:].decode().strip()
        if not line:
            return False
        if line.startswith(b"POST /stream "):
            self.stream(connection, token)
            return False
        request = json.loads(reader.read(length))
        try:
            answer = {"result": self._call(request["method"], dict(request.get("params") or {}))}
        except Refusal as refusal:
            answer = {"error": refusal.error}
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return True

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        with self._lock:
            self.calls.append(method)
            self.requests.append((method, dict(params)))
        if method not in self._checks:
            raise Refusal(-32601, f"no method {method!r}", kind="method_not_found")
        try:
            self._checks[method](params)
        except InvalidParams as error:
            raise Refusal(-32602, str(error), **{"kind": "invalid_params", **error.data}) from None
        request_id = params.pop("request_id", None)
        if request_id in self.answers:
            return self.answers[request_id]
        if method in self._extra:
            result = self._extra[method](**params)
        elif (known := getattr(self, method.replace(".", "_"), None)) is None:
            raise Refusal(1006, f"this stand-in has no {method}", kind="unsupported")
        else:
            result = known(**params)
        if request_id is not None:
            self.note(method, {key: str(params[key]) for key in ("name", "user", "workspace") if key in params})
            self.audit[0]["request_id"] = request_id
            self.answers[request_id] = result
        return result

    def _of(self, table: dict[str, dict[str, Any]], name: str, what: str) -> dict[str, Any]:
        if name not in table:
            raise Refusal(1001, f"no {what} {name!r} on this node", kind="not_found", hint=f"inv {what}.list")
        return table[name]

    def rpc_discover(self) -> Any:
        return self.contract

    def node_version(self) -> Any:
        return {
            "agent": "0.1.0",
            "api": "1.0.0",
            "python": "3.11",
            "build": f"b{len(self._extra)}",
            "node_id": self.name,
        }

    def node_info(self) -> Any:
        counts = {"users": len(self.users), "workspaces": len(self.workspaces), "sandboxes": 0}
        return {
            "node_id": self.name, "instance_id": "i", "hostname": self.name, "kernel": "6.1", "arch": "x86_64",
            "os": {"id": "debian", "version_id": "12", "name": "Debian GNU/Linux 12"}, "python": "3.11", "cpus": 2,
            "memory_bytes": 2 << 30, "memory_available_bytes": 1 << 30,
            "disk": {"total_bytes": 100 << 30, "free_bytes": 60 << 30},
            "agent_version": "0.1.0", "api_version": "1.0.0", "started_at": AT, "now": AT, "counts": counts,
        }  # fmt: skip

    def node_health(self) -> Any:
        return {"status": "ok", "checks": [{"name": "store", "status": "ok", "detail": "writable"}]}

    def workspace_list(self, **_: Any) -> Any:
        return list(self.workspaces.values())

    def workspace_get(self, name: str) -> Any:
        return self._of(self.workspaces, name, "workspace")

    def workspace_create(self, name: str, **more: Any) -> Any:
        if name in self.workspaces:
            raise Refusal(1002, f"workspace {name!r} exists", kind="already_exists", hint=f"inv workspace.get {name}")
        self.slow.wait(10)
        return {**self.add(name, labels=more.get("labels", {})), "warnings": []}

    def workspace_update(self, name: str, labels: dict[str, str | None] | None = None) -> Any:
        row = self._of(self.workspaces, name, "workspace")
        merged = {**row["labels"], **(labels or {})}
        row = {**row, "labels": {key: value for key, value in merged.items() if value is not None}}
        self.workspaces[name] = row
        return row

    def workspace_delete(self, name: str, keep_user: bool = False) -> Any:
        del self.workspaces[self._of(self.workspaces, name, "workspace")["name"]]
        self.users.pop(name, None)
        return {"name": name, "deleted": True, "user_deleted": not keep_user, "leftovers": []}

    def workspace_exec(self, name: str, argv: list[str], **_: Any) -> Any:
        self._of(self.workspaces, name, "workspace")
        self.slow.wait(10)
        return {
            "exit_code": 0, "signal": None, "stdout": " ".join(argv) + "\n", "stdout_encoding": "text", "stderr": "",
            "stderr_encoding": "text", "truncated": False, "omitted_bytes": 0, "duration_s": 0.01, "killed_by": None,
        }  # fmt: skip

    def workspace_open(self, name: str) -> Any:
        return self._of(self.workspaces, name, "workspace")

    def workspace_usage(self, name: str) -> Any:
        self._of(self.workspaces, name, "workspace")
        return {
            "memory_bytes": 0, "memory_peak_bytes": None, "memory_limit_bytes": None, "cpu_s": 0.0, "tasks": 0,
            "disk_bytes": 0, "files": 0, "disk_limit_bytes": None, "network": {"allowed": [], "denied": self.denied},
        }  # fmt: skip

    def sandbox_create(self, workspace: str, limits: Any = None, network: Any = "full") -> Any:
        sandbox = {
            "workspace": workspace, "limits": limits or {}, "network": network, "enforced": {"files": True},
            "state": "ready", "created_at": AT,
        }  # fmt: skip
        self.workspaces[workspace] = {**self._of(self.workspaces, workspace, "workspace"), "sandbox": sandbox}
        return sandbox

    def sandbox_update(self, workspace: str, limits: Any = None, network: Any = None, **lists: Any) -> Any:
        known = self._of(self.workspaces, workspace, "workspace")
        before = known["sandbox"]
        merged = {**before["limits"], **(limits or {})}
        network = network or before["network"]
        if lists.get("allow"):
            network = {**network, "allow": [*network["allow"], *lists["allow"]]}
        limits = {name: one for name, one in merged.items() if one is not None}
        self.workspaces[workspace] = {**known, "sandbox": {**before, "limits": limits, "network": network}}
        return self.workspaces[workspace]["sandbox"]

    def sandbox_delete(self, workspace: str) -> Any:
        self.workspaces[workspace] = {**self._of(self.workspaces, workspace, "workspace"), "sandbox": None}
        return {"workspace": workspace, "deleted": True}

    def repo_init(self, workspace: str, name: str, **_: Any) -> Any:
        row = self._of(self.workspaces, workspace, "workspace")
        self.workspaces[workspace] = {**row, "repos": [*row["repos"], name]}
        return {"name": name, "path": f"code/{name}", "url": None, "branch": "main", "commit": None}

    def repo_delete(self, workspace: str, name: str) -> Any:
        row = self._of(self.workspaces, workspace, "workspace")
        self.workspaces[workspace] = {**row, "repos": [one for one in row["repos"] if one != name]}
        return {"name": name, "deleted": True}

    def repo_list(self, workspace: str) -> Any:
        return [{"name": name, "path": f"code/{name}", "url": None, "branch": "main", "commit": None}
                for name in self._of(self.workspaces, workspace, "workspace")["repos"]]  # fmt: skip

    def audit_list(self, limit: int = 100, before: str = "", workspace: str = "", user: str = "") -> Any:
        rows = [one for one in self.audit if not before or int(one["cursor"]) < int(before)]
        return rows[:limit]
