"""Looks at one node as long as somebody watches it: one poller per node, however many pages are open.

Only methods that list and get are called: no page starts a workspace's runtime or counts as its use.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from codesmith.errors import AgentRefused, CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.sdk.client import Client
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.ui.contract import Contracts, Method
from codesmith.ui.store import Store
from codesmith.workspace import forwards

# Every change leaves an audit record, so the newest record tells at little cost whether anything changed.
LOOK_S = 0.5
# What changes without a record: free space, runtimes that end by themselves.
LISTS_S = 4.0
HEALTH_S = 30.0
# The node measures the files of a workspace for it.
USAGE_S = 5.0
USAGE_KEPT = 200
RETRY_S = (1.0, 2.0, 5.0)
# A call is given up much later; until then the page says that it waits.
SILENT_S = 3.0


class Poller(threading.Thread):
    """Polls one node from `watch` to `unwatch`, and pauses in between; `end` ends the thread."""

    def __init__(self, node: Node, store: Store, contracts: Contracts) -> None:
        super().__init__(name=f"poller {node.name}", daemon=True)
        self.node = node
        self._store, self._contracts = store, contracts
        self._wanted, self._kick = threading.Event(), threading.Event()
        self._is_ended = False
        self._workspaces: tuple[str, ...] = ()
        self._measured: dict[str, Any] = {}  # the id of each workspace whose usage is kept, by name
        self._failures, self._since = 0, time.time()
        self._asked_at: float | None = None
        self._summary: dict[str, Any] = {
            "name": node.name, "host": node.place, "endpoint": str(endpoint_path(node)), "tags": list(node.tags),
            "labels": dict(node.labels), "state": "unknown", "reason": "", "hint": "", "kind": "", "since": self._since,
        }  # fmt: skip
        self._show()

    def watch(self, workspaces: tuple[str, ...]) -> None:
        """Poll from now on; also the usage of these workspaces."""
        self._workspaces = workspaces
        self._wanted.set()

    def unwatch(self) -> None:
        """Pause: nobody watches."""
        self._wanted.clear()

    def look_now(self) -> None:
        """Do not wait for the next turn."""
        self._kick.set()

    def notice_silence(self) -> None:
        """Say so if a node that is not down has not answered for a while."""
        asked_at = self._asked_at
        if asked_at is None or self._summary["state"] not in ("ready", "connecting"):
            return
        waited_s = time.monotonic() - asked_at
        if waited_s >= SILENT_S:
            self._set_state("silent", CodeSmithError(f"no answer for {waited_s:.0f} s; still waiting"))

    def end(self) -> None:
        """End the thread; a call under way is not waited for."""
        self._is_ended = True
        self._wanted.set()
        self._kick.set()

    def run(self) -> None:
        """Poll until `end`."""
        while not self._is_ended:
            self._wanted.wait()
            if self._summary["state"] == "ready":  # it may have died while nobody watched
                self._set_state("connecting")
            self._asked_at = time.monotonic()
            try:
                with Client(self.node) as client:
                    self._poll(client)
            except CodeSmithError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001  a node's answer must not end the page's only source
                self._fail(
                    CodeSmithError(f"{type(error).__name__}: {error}", hint=f"inv node.doctor --node {self.node.name}")
                )

    def _poll(self, client: Client) -> None:
        if self._summary["state"] == "unknown":  # a node that is down stays so, with its reason, until it answers
            self._set_state("connecting")
        newest, times = None, {"lists": 0.0, "health": 0.0, "usage": 0.0}
        measured: tuple[str, ...] = ()
        methods = self._contracts.of(client)
        while self._wanted.is_set() and not self._is_ended:
            now = self._asked_at = time.monotonic()
            records = client.call("audit.list", {"limit": 1})
            head = records[0]["cursor"] if records else ""
            is_due = head != newest or now - times["lists"] >= LISTS_S
            if is_due:
                newest, times["lists"] = head, now
                self._look_at_lists(client, head)
            if now - times["health"] >= HEALTH_S:
                times["health"] = now
                self._put({"health": client.call("node.health")})
                self._show()
            watched = self._workspaces
            for name in watched:
                self._look_at_work(client, methods, name)
                if is_due or watched != measured:
                    self._look_at_tokens(client, methods, name)
            if now - times["usage"] >= USAGE_S or watched != measured:
                times["usage"], measured = now, watched
                self._look_at_usage(client, methods, watched)
            self._asked_at = None
            self._set_state("ready")
            self._failures = 0
            self._kick.wait(LOOK_S)
            self._kick.clear()

    def _look_at_lists(self, client: Client, head: str) -> None:
        workspaces, users = client.call("workspace.list"), client.call("user.list")
        info = client.call("node.info")
        info.pop("now", None)  # it would be a change at every look
        self._store.replace(self.node.name, "workspace/", {f"workspace/{one['name']}": one for one in workspaces})
        self._store.replace(self.node.name, "user/", {f"user/{one['name']}": one for one in users})
        ids = {one["name"]: one.get("id") for one in workspaces if _may_run(one)}
        self._measured = {name: made for name, made in self._measured.items() if name in ids and ids[name] == made}
        usage = {f"usage/{name}": self._store.get(self.node.name, f"usage/{name}") for name in self._measured}
        self._store.replace(self.node.name, "usage/", usage)
        self._put({"info": info, "changed": head})
        self._summary["names"] = [one["name"] for one in workspaces]
        self._summary["users"] = len(users)
        self._summary["running"] = sum((one.get("runtime") or {}).get("state") == "running" for one in workspaces)
        self._show()

    def _look_at_usage(self, client: Client, methods: dict[str, Method], workspaces: tuple[str, ...]) -> None:
        """Add a point to the usage of each watched workspace that runs."""
        for name in workspaces if "workspace.usage" in methods else ():
            there = self._store.get(self.node.name, f"workspace/{name}") or {}
            if not there or not _may_run(there):
                continue
            usage = client.call("workspace.usage", {"name": name})
            before = (self._store.get(self.node.name, f"usage/{name}") or {}).get("points", [])
            point = {
                "at": round(time.time(), 1),
                **{key: usage[key] for key in usage if isinstance(usage[key], int | float)},
            }
            self._measured[name] = there.get("id")
            self._put({f"usage/{name}": {"latest": usage, "points": [*before, point][-USAGE_KEPT:]}})

    def _look_at_work(self, client: Client, methods: dict[str, Method], name: str) -> None:
        """Look at the jobs of a watched workspace, which change without a record, and at its forwards on this side."""
        if "job.list" in methods:
            try:
                jobs, problem = client.call("job.list", {"workspace": name}), {}
            except AgentRefused as refused:  # the workspace is gone, or what it runs in is older than the agent
                jobs, problem = [], {"problem": refused.problem, "hint": refused.hint}
            # The place of each, since values have no order.
            self._replace(f"job/{name}/", {job["id"]: {**job, "at": at} for at, job in enumerate(reversed(jobs))})
            self._put({f"jobs/{name}": problem})
        with contextlib.suppress(CodeSmithError):  # about the forwarder; what it says of this node is told by the calls
            there = forwards.list_forwards(self.node, name)
            self._replace(f"forward/{name}/", {str(one.port): one.to_dict() for one in there})

    def _look_at_tokens(self, client: Client, methods: dict[str, Method], name: str) -> None:
        """Look at the tokens of a watched workspace; their last use changes without a record."""
        is_there = "token.list" in methods and self._store.get(self.node.name, f"workspace/{name}") is not None
        tokens = client.call("token.list", {"workspace": name}) if is_there else []
        self._replace(f"token/{name}/", {one["id"]: one for one in tokens})

    def _replace(self, prefix: str, values: dict[str, Any]) -> None:
        if not self._is_ended:
            self._store.replace(self.node.name, prefix, {f"{prefix}{key}": value for key, value in values.items()})

    def _fail(self, error: CodeSmithError) -> None:
        if self._is_ended:
            return
        self._asked_at = None
        self._set_state("down", error)
        wait_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self._kick.wait(wait_s)
        self._kick.clear()

    def _set_state(self, state: str, error: CodeSmithError | None = None) -> None:
        if state != self._summary["state"]:
            self._since = time.time()
        about = {"reason": error.problem, "hint": error.hint, "kind": error.kind} if error else {}
        self._summary.update({"state": state, "since": self._since, "reason": "", "hint": "", "kind": "", **about})
        self._show()

    def _show(self) -> None:
        """Put the line of the fleet's table."""
        info, health = (self._store.get(self.node.name, key) or {} for key in ("info", "health"))
        facts = {key: info.get(key) for key in ("agent_version", "disk", "memory_bytes", "cpus", "load", "counts")}
        self._put({"node": {**self._summary, **facts, "health": health.get("status")}})

    def _put(self, values: dict[str, Any]) -> None:
        if not self._is_ended:
            self._store.put(self.node.name, values)


def _may_run(workspace: dict[str, Any]) -> bool:
    """Tell whether its runtime runs; an older agent does not say."""
    runtime = workspace.get("runtime")
    return not runtime or runtime.get("state") == "running"
