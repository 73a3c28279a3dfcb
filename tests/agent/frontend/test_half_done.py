"""Pending changes: which later change supersedes them, and which leaves them pending."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.frontend.change import Change
from agent.methods import METHODS
from agent.shared.errors import CommandFailed, InUse, NotFound
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import assigned_half_way, cut_off

BY_NAME = {entry.name: entry for entry in METHODS}
DEMO, SITE = {"name": "demo"}, {"workspace": "demo", "name": "site"}


def test_an_assignment_that_was_cut_off_is_not_forgotten_by_a_refusal(rpc: Rpc) -> None:
    for name in ("ada", "bob"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    cut_off(rpc, "workspace.assign", "workspace.assign", name="demo", user="bob")
    rpc.helper.refusals["workspace.assign"] = InUse("a file system is mounted")
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    assert "workspace.assign demo bob" in str(rpc.call("node.health"))
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["state"] == "ready"
    assert rpc.store.intents() == []


def test_an_assignment_that_meets_another_one_is_refused_and_forgotten(rpc: Rpc) -> None:
    for name in ("ada", "bob", "eve"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    rpc.helper.entered.clear()
    rpc.helper.hold_back("workspace.assign")
    first = threading.Thread(target=rpc.call, args=("workspace.assign",), kwargs={"name": "demo", "user": "bob"})
    first.start()
    try:
        assert rpc.helper.entered.wait(10)
        rpc.refuses("workspace.assign", 1004, name="demo", user="eve")
        assert rpc.call("workspace.get", name="demo")["state"] == "pending"
        assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob"]
    finally:
        rpc.helper.gate.set()
        first.join()
    assert [one["outcome"] for one in rpc.audited()][-2:] == ["in_use", "ok"]
    rpc.dispatcher.resume()
    found = rpc.call("workspace.get", name="demo")
    assert (found["user"], found["state"]) == ("bob", "ready")


def test_an_assignment_that_is_refused_after_another_one_was_cut_off_is_forgotten(rpc: Rpc) -> None:
    assigned_half_way(rpc, InUse("workspace 'demo' is being assigned or deleted"))
    rpc.refuses("workspace.assign", 1004, name="demo", user="eve")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob"]
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["user"] == "bob"


def test_an_assignment_that_is_cut_off_after_another_one_is_completed(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned_half_way(rpc, None)
    reply = rpc.helper._reply

    def by_heir(connection: Any, message: dict[str, Any]) -> None:
        is_first = message["arguments"].get("user") == "bob"
        rpc.helper.refusals["workspace.assign"] = InUse("a file system is mounted") if is_first else None
        reply(connection, message)

    with monkeypatch.context() as patch:
        patch.setattr(rpc.helper, "_reply", by_heir)
        rpc.refuses("workspace.assign", 1004, name="demo", user="eve")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob", "eve"]
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    found = rpc.call("workspace.get", name="demo")
    assert (found["user"], found["state"]) == ("eve", "ready")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("workspace.update", {"name": "demo", "labels": {"team": "a"}}),
        ("user.disable", {"name": "bob"}),
        ("user.set_keys", {"name": "bob", "ssh_keys": []}),
        ("user.delete", {"name": "bob"}),
    ],
)
def test_a_change_that_does_not_supersede_an_assignment_leaves_it_pending(
    rpc: Rpc, method: str, params: dict[str, Any]
) -> None:
    assigned_half_way(rpc, CommandFailed("a file resists", pending=True))
    rpc.call(method, **params)
    assert [intent.method for intent in rpc.store.intents()] == ["workspace.assign"]
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["state"] == "ready"


def test_another_assignment_supersedes_a_pending_one(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    assigned_half_way(rpc, NotFound("no user 'bob' on this node"))
    reply = rpc.helper._reply

    def without_bob(connection: Any, message: dict[str, Any]) -> None:
        if message["arguments"].get("user") == "eve":
            rpc.helper.refusals.clear()
        reply(connection, message)

    monkeypatch.setattr(rpc.helper, "_reply", without_bob)
    assert rpc.call("workspace.assign", name="demo", user="eve")["user"] == "eve"
    assert rpc.store.intents() == []


def test_an_assignment_that_fails_again_and_again_is_journaled_once(rpc: Rpc) -> None:
    failure = CommandFailed("a file resists", pending=True)
    assigned_half_way(rpc, failure)
    for number in range(3):
        before = len(rpc.helper.calls)
        rpc.refuses("workspace.assign", 1007, name="demo", user="bob")
        assert len(rpc.helper.calls) - before == 2, number
        assert len(rpc.store.intents()) == len(rpc.dispatcher._changes._list_pending()) == 1
    rpc.refuses("workspace.assign", 1007, name="demo", user="bob", request_id="r1")
    assert [intent.params.get("request_id") for intent in rpc.store.intents()] == ["r1"]
    rpc.refuses("workspace.assign", 1007, name="demo", user="eve")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob", "eve"]
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.assign", name="demo", user="bob")["user"] == "bob"
    assert rpc.store.intents() == []


def test_a_refused_repetition_leaves_the_change_pending(rpc: Rpc) -> None:
    assigned_half_way(rpc, CommandFailed("a file resists", pending=True))
    document = rpc.store.get_user("bob")
    assert document
    document.pop("workspaces")
    rpc.store.put_user({**document, "state": "disabled"})
    rpc.refuses("workspace.assign", 1005, name="demo", user="bob")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob"]


@pytest.mark.parametrize(
    ("later", "earlier", "is_superseded"),
    [
        (("workspace.assign", {**DEMO, "user": "eve"}), ("workspace.assign", {**DEMO, "user": "bob"}), True),
        (("workspace.delete", DEMO), ("workspace.assign", {**DEMO, "user": "bob"}), True),
        (("workspace.delete", DEMO), ("repo.clone", {"workspace": "demo", "url": "https://h/site"}), True),
        (("workspace.delete", DEMO), ("sandbox.create", {"workspace": "demo"}), True),
        (("workspace.delete", DEMO), ("user.disable", DEMO), False),
        (("workspace.delete", DEMO), ("workspace.assign", {"name": "other", "user": "demo"}), False),
        (("workspace.update", DEMO), ("workspace.assign", {**DEMO, "user": "bob"}), False),
        (("workspace.open", DEMO), ("workspace.create", DEMO), False),
        (("repo.delete", SITE), ("repo.clone", {**SITE, "url": "https://h/site"}), True),
        (("repo.delete", SITE), ("repo.init", {**SITE, "name": "other"}), False),
        (("repo.delete", SITE), ("workspace.assign", {**DEMO, "user": "bob"}), False),
        (("sandbox.create", {"workspace": "demo"}), ("sandbox.delete", {"workspace": "demo"}), True),
        (("sandbox.delete", {"workspace": "demo"}), ("repo.init", {"workspace": "demo"}), False),
        (("user.enable", DEMO), ("user.disable", DEMO), True),
        (("user.disable", DEMO), ("user.set_keys", DEMO), False),
        (("user.delete", DEMO), ("user.set_keys", DEMO), True),
        (("user.set_keys", DEMO), ("user.delete", DEMO), False),
        (("user.delete", {"name": "bob"}), ("workspace.assign", {**DEMO, "user": "bob"}), False),
    ],
)
def test_which_change_supersedes_which(
    later: tuple[str, dict[str, Any]], earlier: tuple[str, dict[str, Any]], is_superseded: bool
) -> None:
    after, before = (Change.of(BY_NAME[method], params) for method, params in (later, earlier))
    assert after.supersedes(before) is is_superseded
