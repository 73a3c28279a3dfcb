"""Work that no single call of an agent does: plan, prepare, doctor, logs. It goes on when its page is closed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from codesmith.cli import crash_report
from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.ui import journal
from codesmith.ui.store import EVERYWHERE, Store

AT_ONCE = 8
KEPT = 40
ENDED = ("done", "failed")
Say = Callable[[dict[str, Any]], None]
Work = Callable[[Node, Say], dict[str, Any]]


class Actions:
    """Starts actions and shows how far each is."""

    def __init__(self, store: Store, *, read_only: bool) -> None:
        self._store, self._read_only = store, read_only
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="action")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._shown: dict[str, dict[str, Any]] = {}
        self._unwanted: set[str] = set()
        self._is_closed = False

    def start(self, kind: str, node: Node) -> str:
        """Start an action on a node and return its id; CodeSmithError if there is none of this kind."""
        work = self._follow if kind == LOGS else KINDS.get(kind)
        if work is None:
            raise CodeSmithError(f"no action {kind!r} (there are {', '.join([*KINDS, LOGS])})")
        if self._read_only and kind not in HARMLESS:
            raise CodeSmithError(f"these pages are read-only, and {kind} changes the node", hint="inv ui.open")
        same = next((row["id"] for row in self._under_way() if (row["kind"], row["node"]) == (kind, node.name)), None)
        if same is not None:
            return str(same)  # a second click is no second action
        key = f"{next(self._numbers):06d}"
        row = {"id": key, "kind": kind, "node": node.name, "state": "waiting", "steps": [], "started_at": time.time()}
        self._show(row)
        if kind == LOGS:  # it may last for ever, and takes no place of work that ends
            self._unwanted.discard(node.name)
            threading.Thread(target=self._run, args=(row, work, node), name=f"journal {node.name}", daemon=True).start()
        else:
            self._pool.submit(self._run, row, work, node)
        return key

    def stop_logs(self, node: Node) -> None:
        """End following the journal of a node."""
        self._unwanted.add(node.name)

    def under_way(self) -> list[str]:
        """Name what is not at its end, journals left out: they end with the pages."""
        return [f"{row['kind']} on {row['node']}" for row in self._under_way() if row["kind"] != LOGS]

    def close(self) -> None:
        """Start nothing more; what runs goes on to its end with the process, journals end now."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _follow(self, node: Node, say: Say) -> dict[str, Any]:  # noqa: ARG002  all actions have one shape
        """Show a journal as it grows, as long as a page of its node is open and nobody has stopped it."""

        def is_wanted() -> bool:
            pages = any(watcher.node == node.name for watcher in self._store.watchers())
            return pages and node.name not in self._unwanted and not self._is_closed

        key = f"journal/{node.name}"
        self._store.put(node.name, {key: []})
        journal.follow(journal.command_for(node), lambda lines: self._store.put(node.name, {key: lines}), is_wanted)
        return {"result": "ended"}

    def _run(self, row: dict[str, Any], work: Work, node: Node) -> None:
        def say(step: dict[str, Any]) -> None:
            nonlocal row
            row = {**row, "steps": [*row["steps"], step]}
            self._show(row)

        row = {**row, "state": "running", "started_at": time.time()}
        self._show(row)
        try:
            end = {"state": "done", "result": work(node, say)}
        except CodeSmithError as error:
            end = {"state": "failed", "problem": error.problem, "hint": error.hint, "kind_of_error": error.kind}
        except Exception as error:  # noqa: BLE001  the border of an action
            told = crash_report.crash_report(node.name, error)
            end = {"state": "failed", "problem": told.problem, "hint": told.hint, "kind_of_error": told.kind}
        self._show({**row, **end, "ended_at": time.time()})

    def _show(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._shown[row["id"]] = row
            for key in sorted(self._shown)[:-KEPT]:
                if self._shown[key]["state"] in ENDED:
                    del self._shown[key]
            values = {f"action/{key}": value for key, value in self._shown.items()}
            self._store.replace(EVERYWHERE, "action/", values)

    def _under_way(self) -> list[dict[str, Any]]:
        with self._lock:
            return [row for row in self._shown.values() if row["state"] not in ENDED]


def _plan(node: Node, say: Say) -> dict[str, Any]:
    from codesmith.fleet import installation

    return installation.prepare(node, lambda done: say(_step(done)), plan_only=True)


def _prepare(node: Node, say: Say) -> dict[str, Any]:
    from codesmith.fleet import installation

    return installation.prepare(node, lambda done: say(_step(done)), plan_only=False)


def _step(done: Any) -> dict[str, Any]:
    return {
        "text": done.text,
        "seconds": round(done.seconds, 2),
        "ok": done.ok,
        "message": done.message,
        "then": done.then,
    }


def _doctor(node: Node, say: Say) -> dict[str, Any]:  # noqa: ARG001  all actions have one shape
    from codesmith.doctor.controller import check_controller
    from codesmith.doctor.node import check_node
    from codesmith.nodes.registry import Registry

    findings = [*check_controller(Registry.load(node.registry)), *check_node(node)]
    return {"findings": [finding.to_dict() for finding in findings]}


KINDS: dict[str, Work] = {"doctor": _doctor, "plan": _plan, "prepare": _prepare}
LOGS = "logs"
HARMLESS = {"doctor", LOGS, "plan"}
