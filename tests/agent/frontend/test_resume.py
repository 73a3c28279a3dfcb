"""Resuming interrupted changes: others go on meanwhile; calls for the same wait, up to a limit."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.frontend import changes, context
from agent.frontend.audit import Attempt
from agent.frontend.change import Change
from agent.frontend.changes import Pending
from agent.methods import workspace
from agent.shared.errors import CommandFailed, WaitedTooLong
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import cut_off, resuming, wait_until

CLONE: dict[str, Any] = {"workspace": "demo", "url": "https://h/site", "request_id": "r1"}


def clone_cut_off(rpc: Rpc) -> None:
    """Interrupt a clone into workspace demo; it is not rolled back yet."""
    rpc.call("workspace.create", name="demo")
    rpc.helper.refusals["repo.settle"] = None
    cut_off(rpc, "repo.clone", "repo.clone", **CLONE)
    rpc.helper.refusals.clear()


def test_other_changes_go_on_while_a_long_one_is_resumed(rpc: Rpc) -> None:
    clone_cut_off(rpc)
    replies: list[Any] = []

    def update() -> None:
        replies.append(rpc.call("workspace.update", name="demo", labels={}))

    with resuming(rpc, "repo.settle"):
        assert rpc.call("user.create", name="eve")["state"] == "active"
        second = threading.Thread(target=update)
        second.start()
        assert rpc.call("user.delete", name="eve")["deleted"]
        assert replies == []
    second.join()
    assert len(replies) == 1
    assert [verb for verb, _ in rpc.helper.calls].count("repo.settle") == 2, "cut off, and taken up once"
    assert rpc.store.intents() == []


def test_a_superseded_change_is_not_resumed(rpc: Rpc) -> None:
    """The workspace is deleted and created again while a clone into it is rolled back, which fails."""
    clone_cut_off(rpc)
    rpc.helper.refusals["repo.settle"] = CommandFailed("a job does not end", pending=True)
    with resuming(rpc, "repo.settle"):
        changes = rpc.dispatcher.changes
        params = {"name": "demo"}
        attempt = Attempt("workspace.delete", params, None)
        changes.begin(Change.of(workspace.delete, params), attempt, changes.list_pending())
        rpc.call("workspace.create", name="demo")
    rpc.helper.refusals.clear()
    rpc.call("workspace.update", name="demo", labels={})
    assert [verb for verb, _ in rpc.helper.calls].count("repo.settle") == 2
    assert rpc.store.intents() == []


def test_a_call_that_waits_too_long_for_a_resumed_change_is_refused(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    clone_cut_off(rpc)
    monkeypatch.setattr(changes, "LOCK_WAIT_S", 0.1)
    with resuming(rpc, "repo.settle"):
        for method, params in (
            ("workspace.update", {"name": "demo", "labels": {"team": "a"}}),
            ("workspace.delete", {"name": "demo"}),
        ):
            assert "is being completed" in rpc.refuses(method, 1004, **params)["message"]
        assert [intent.method for intent in rpc.store.intents()] == ["repo.clone"]
    assert rpc.call("workspace.get", name="demo")["labels"] == {}
    assert rpc.store.intents() == []


def test_a_call_that_waits_too_long_for_the_lock_to_resume_is_refused(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(rpc, "user.ensure", "user.create", name="ada")
    turns = [WaitedTooLong("other changes on this node take too long")]
    changes = rpc.dispatcher.changes
    one_at_a_time = changes.one_at_a_time

    def busy_once() -> Any:
        if turns:
            raise turns.pop()
        return one_at_a_time()

    monkeypatch.setattr(changes, "one_at_a_time", busy_once)
    assert "take too long" in rpc.refuses("user.delete", 1004, name="ada")["message"]
    assert [intent.method for intent in rpc.store.intents()] == ["user.create"]
    assert rpc.call("user.delete", name="ada")["deleted"]


def test_a_creation_that_waits_too_long_for_its_roll_back_stays_pending(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = rpc.store.begin("workspace.create", {"name": "demo", "repo": {"url": "https://h/site"}})
    rpc.dispatcher.changes.pending[intent.id] = Pending(intent)
    with monkeypatch.context() as patch:
        patch.setattr(context, "LOCK_WAIT_S", 0.1)
        rpc.helper.hold_back("user.ensure")
        other = threading.Thread(target=rpc.call, args=("user.create",), kwargs={"name": "eve"})
        other.start()
        try:
            rpc.helper.wait_for("user.ensure")
            rpc.dispatcher.resume()
        finally:
            rpc.helper.gate.set()
            other.join()
    assert rpc.store.intents() == [intent]
    rpc.dispatcher.resume()
    assert rpc.store.intents() == []


class CountedCondition(threading.Condition):
    """A condition that knows how many threads wait for it."""

    waiting = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting += 1
        try:
            return super().wait(timeout)
        finally:
            self.waiting -= 1


@pytest.mark.parametrize("request_id", [{}, {"request_id": "r2"}], ids=["without an id", "with another id"])
@pytest.mark.parametrize(("method", "verb"), [("user.create", "user.ensure"), ("user.delete", "user.remove")])
def test_the_same_call_while_a_change_is_resumed_gets_its_result(
    rpc: Rpc, method: str, verb: str, request_id: dict[str, str]
) -> None:
    if method == "user.delete":
        rpc.call("user.create", name="ada")
    cut_off(rpc, verb, method, name="ada", request_id="r1")
    guard = rpc.dispatcher.changes.guard = CountedCondition()
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "ada", **request_id}}
    replies: list[Any] = []

    def repeat() -> None:
        replies.append(rpc.answer(request))

    waiting = [threading.Thread(target=repeat) for _ in range(2 if not request_id else 1)]
    with resuming(rpc, verb):
        for thread in waiting:
            thread.start()
        wait_until(lambda: guard.waiting == len(waiting))
    for thread in waiting:
        thread.join()
    assert [reply["result"]["name"] for reply in replies] == ["ada"] * len(waiting)
    assert [called for called, _ in rpc.helper.calls].count(verb) == 2, "cut off, and taken up once"
    assert [one["outcome"] for one in rpc.audited()][-len(waiting) - 1 :] == ["resumed", *["ok"] * len(waiting)]
