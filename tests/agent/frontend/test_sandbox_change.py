"""A time limit reaches the supervisor that runs, or says that it cannot; a refused change is taken back there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.frontend import sandbox_change
from agent.frontend.runtime_client import NotRunning
from agent.shared.errors import InUse, Unsupported

BEFORE: Any = {
    "workspace": "demo", "limits": {"runtime_s": 9.0, "tasks": 5}, "network": "none", "state": "ready", "denied": [],
    "enforced": {"runtime_s": True, "tasks": True, "network": True, "files": True},
    "created_at": "2026-11-23T00:00:00.000Z",
}  # fmt: skip
FIELDS = {"network": None, "allow": [], "deny": [], "drop": [], "restart": False, "force": False}


class StandIn:
    """The front end's context, whose supervisor and helper answer as the test says."""

    def __init__(self, supervisor: Exception | None = None, helper: Exception | None = None) -> None:
        self.supervisor, self.refusal, self.calls = supervisor, helper, list[Any]()
        self.runtimes = self.helper = self.job_watch = self.store = self

    def ask(self, workspace: str, request: str, *, reply_timeout_s: float, runtime_s: Any) -> dict[str, Any]:
        self.calls.append((request, runtime_s))
        if self.supervisor:
            raise self.supervisor
        return {}

    def call(self, verb: str, workspace: str, **fields: Any) -> dict[str, Any]:
        self.calls.append(verb)
        if self.refusal:
            raise self.refusal
        limits = {**BEFORE["limits"], **fields.get("limits", {})}
        limits = {name: one for name, one in limits.items() if one is not None}
        return {"limits": limits, "network": fields.get("network") or "none", "enforced": {}}

    @contextmanager
    def while_ending(self, workspaces: list[str]) -> Iterator[None]:
        self.calls.append("while_ending")
        yield

    def change_workspace(self, workspace: str, fields: dict[str, Any]) -> None:
        self.calls.append("store")


def change(context: Any, **fields: Any) -> Any:
    return sandbox_change.change(context, BEFORE, {**FIELDS, **fields})


def test_a_supervisor_that_runs_gets_the_time_limit() -> None:
    context = StandIn()
    assert change(context, limits={"runtime_s": 3.0})["limits"] == {"runtime_s": 3.0, "tasks": 5}
    assert context.calls == [("limits", 3.0), "sandbox.change", ("limits", 3.0), "store"]


def test_none_that_runs_needs_no_telling() -> None:
    assert change(StandIn(NotRunning("demo")), limits={"runtime_s": 3.0})["limits"]["runtime_s"] == 3.0


def test_a_supervisor_of_an_older_agent_wants_a_restart_and_nothing_is_changed() -> None:
    context = StandIn(Unsupported("knows no request"))
    with pytest.raises(InUse) as refusal:
        change(context, limits={"runtime_s": 3.0})
    assert "--restart" in refusal.value.data["hint"]
    assert context.calls == [("limits", 3.0)]
    change(context, limits={"runtime_s": 3.0}, restart=True)
    assert context.calls[1:] == [("limits", 3.0), "while_ending", "sandbox.change", "runtime.stop", "store"]


def test_what_runs_is_ended_only_where_the_change_needs_it() -> None:
    context = StandIn()
    change(context, limits={"disk_bytes": 1 << 30}, restart=True)
    assert context.calls == ["sandbox.change", "store"]
    context = StandIn(helper=InUse("something runs", restart=True))
    with pytest.raises(InUse, match="something runs"):
        change(context, limits={}, network="full", restart=True)
    assert context.calls == ["sandbox.change", "while_ending", "sandbox.change"]
    with pytest.raises(InUse, match="something runs"):
        change(context, limits={}, network="full")
    assert context.calls[3:] == ["sandbox.change"]


def test_what_the_helper_refuses_is_taken_back_at_the_supervisor() -> None:
    context = StandIn(helper=InUse("too low"))
    with pytest.raises(InUse, match="too low"):
        change(context, limits={"runtime_s": 3.0, "tasks": 1})
    assert context.calls == [("limits", 3.0), "sandbox.change", ("limits", 9.0)]


def test_only_what_is_asked_for_counts_as_enforced() -> None:
    changed = change(StandIn(), limits={"tasks": None}, network="full", restart=True)
    assert changed["enforced"] == {"runtime_s": True, "files": True}
