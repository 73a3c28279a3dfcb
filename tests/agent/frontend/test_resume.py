"""What was cut off is taken up: others go on meanwhile, who asks for the same waits, for so long."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.frontend import changes, context
from agent.frontend.audit import Attempt
from agent.frontend.change import Change
from agent.frontend.changes import Pending
from agent.methods import workspace
from agent.shared.errors import InUse, WaitedTooLong
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import assigned_half_way, cut_off, taken_up, wait_until


@pytest.mark.parametrize("by", ["the next start", "the same call"])
def test_other_changes_go_on_while_a_long_one_is_taken_up(rpc: Rpc, by: str) -> None:
    for name in ("ada", "bob"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    request = {"name": "demo", "user": "bob", "request_id": "r1"}
    cut_off(rpc, "workspace.assign", "workspace.assign", **request)
    rpc.helper.hold_back("workspace.assign")
    replies: list[Any] = []

    def repeat() -> None:
        replies.append(rpc.call("workspace.assign", **request))

    first = threading.Thread(target=rpc.dispatcher.resume if by == "the next start" else repeat)
    first.start()
    assert rpc.helper.entered.wait(10)
    try:
        assert rpc.call("user.create", name="eve")["state"] == "active"
        second = threading.Thread(target=repeat)
        second.start()
        assert rpc.call("user.delete", name="eve")["deleted"]
        assert replies == []
    finally:
        rpc.helper.gate.set()
        first.join()
        second.join()
    assert {reply["user"] for reply in replies} == {"bob"}
    verbs = [verb for verb, _ in rpc.helper.calls]
    assert verbs.count("workspace.assign") == 2, "cut off, and taken up once"
    assert rpc.store.intents() == []


def test_what_a_later_change_has_made_an_end_of_is_not_taken_up_again(rpc: Rpc) -> None:
    """The workspace is deleted while its assignment runs once more and fails, and made anew."""
    assigned_half_way(rpc, InUse("files in it have leases, which end within a minute"))
    with taken_up(rpc, "workspace.assign"):
        changes = rpc.dispatcher._changes
        params = {"name": "demo"}
        attempt = Attempt("workspace.delete", params, None)
        changes._begin(Change.of(workspace.delete, params), attempt, changes._waiting())
        rpc.call("workspace.create", name="demo", user="ada")
    rpc.helper.refusals.clear()
    rpc.call("workspace.update", name="demo", labels={})
    assert [verb for verb, _ in rpc.helper.calls].count("workspace.assign") == 2
    assert rpc.store.intents() == []


def test_who_waits_too_long_for_what_is_taken_up_is_refused(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    assigned_half_way(rpc, None)
    rpc.helper.refusals.clear()
    monkeypatch.setattr(changes, "LOCK_WAIT_S", 0.1)
    with taken_up(rpc, "workspace.assign"):
        for method, params in (
            ("workspace.update", {"name": "demo", "labels": {"team": "a"}}),
            ("workspace.delete", {"name": "demo"}),
            ("user.disable", {"name": "bob"}),
        ):
            assert "is being completed" in rpc.refuses(method, 1004, **params)["message"]
        assert [intent.method for intent in rpc.store.intents()] == ["workspace.assign"]
    found = rpc.call("workspace.get", name="demo")
    assert (found["user"], found["state"], found["labels"]) == ("bob", "ready", {})
    assert rpc.call("user.get", name="bob")["state"] == "active"
    assert rpc.store.intents() == []


def test_who_waits_too_long_for_the_turn_to_take_up_is_refused(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(rpc, "user.ensure", "user.create", name="ada")
    turns = [WaitedTooLong("other changes on this node take too long")]
    changes = rpc.dispatcher._changes
    one_at_a_time = changes._one_at_a_time

    def busy_once() -> Any:
        if turns:
            raise turns.pop()
        return one_at_a_time()

    monkeypatch.setattr(changes, "_one_at_a_time", busy_once)
    assert "take too long" in rpc.refuses("user.delete", 1004, name="ada")["message"]
    assert [intent.method for intent in rpc.store.intents()] == ["user.create"]
    assert rpc.call("user.delete", name="ada")["deleted"]


def test_a_creation_that_waits_too_long_to_be_settled_is_not_taken_for_settled(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = rpc.store.begin("workspace.create", {"name": "demo", "repo": {"url": "https://h/site"}})
    rpc.dispatcher._changes._unsettled[intent.id] = Pending(intent)
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


@pytest.mark.parametrize("request_id", [{}, {"request_id": "r2"}], ids=["without an id", "with another id"])
@pytest.mark.parametrize(("method", "verb"), [("user.create", "user.ensure"), ("user.delete", "user.remove")])
def test_who_asks_for_the_same_while_it_is_taken_up_gets_its_result(
    rpc: Rpc, method: str, verb: str, request_id: dict[str, str]
) -> None:
    if method == "user.delete":
        rpc.call("user.create", name="ada")
    cut_off(rpc, verb, method, name="ada", request_id="r1")
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "ada", **request_id}}
    replies: list[Any] = []

    def repeat() -> None:
        replies.append(rpc.answer(request))

    waiting = [threading.Thread(target=repeat) for _ in range(2 if not request_id else 1)]
    with taken_up(rpc, verb):
        for thread in waiting:
            thread.start()
        wait_until(lambda: len(rpc.dispatcher._changes._guard._waiters) == len(waiting))  # type: ignore[attr-defined]
    for thread in waiting:
        thread.join()
    assert [reply["result"]["name"] for reply in replies] == ["ada"] * len(waiting)
    assert [called for called, _ in rpc.helper.calls].count(verb) == 2, "cut off, and taken up once"
    assert [one["outcome"] for one in rpc.audited()][-len(waiting) - 1 :] == ["resumed", *["ok"] * len(waiting)]
