"""Pending changes: which later change supersedes them, and which leaves them pending."""

from __future__ import annotations

from typing import Any

import pytest

from agent.frontend.change import Change
from agent.methods import METHODS
from agent.shared.errors import CommandFailed
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import assigned_half_way

BY_NAME = {entry.name: entry for entry in METHODS}
DEMO, SITE = {"name": "demo"}, {"workspace": "demo", "name": "site"}


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
    assigned_half_way(rpc, CommandFailed("jobs do not end", pending=True))
    rpc.call(method, **params)
    assert [intent.method for intent in rpc.store.intents()] == ["workspace.assign"]
    assert rpc.call("workspace.get", name="demo")["user"] == "ada"
    assert "workspace.assign demo bob" in str(rpc.call("node.health"))
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["user"] == ("ada" if method == "user.delete" else "bob")


def test_another_assignment_supersedes_a_pending_one(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    assigned_half_way(rpc, CommandFailed("jobs do not end", pending=True))
    reply = rpc.helper.reply

    def without_bob(connection: Any, message: dict[str, Any]) -> None:
        if message["arguments"].get("user") == "eve":
            rpc.helper.refusals.clear()
        reply(connection, message)

    monkeypatch.setattr(rpc.helper, "reply", without_bob)
    assert rpc.call("workspace.assign", name="demo", user="eve")["user"] == "eve"
    assert rpc.store.intents() == []


def test_an_assignment_that_fails_again_and_again_is_journaled_once(rpc: Rpc) -> None:
    failure = CommandFailed("jobs do not end", pending=True)
    assigned_half_way(rpc, failure)
    for number in range(3):
        before = len(rpc.helper.calls)
        rpc.refuses("workspace.assign", 1007, name="demo", user="bob")
        assert len(rpc.helper.calls) - before == 1, number
        assert len(rpc.store.intents()) == len(rpc.dispatcher.changes.list_pending()) == 1
    rpc.refuses("workspace.assign", 1007, name="demo", user="bob", request_id="r1")
    assert len(rpc.store.intents()) == 1
    rpc.refuses("workspace.assign", 1007, name="demo", user="eve")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob", "eve"]
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.assign", name="demo", user="bob")["user"] == "bob"
    assert rpc.store.intents() == []


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
        (("workspace.unshare", {**DEMO, "user": "bob"}), ("workspace.share", {**DEMO, "user": "bob"}), True),
        (("workspace.unshare", {**DEMO, "user": "eve"}), ("workspace.share", {**DEMO, "user": "bob"}), False),
        (("workspace.assign", {**DEMO, "user": "bob"}), ("workspace.share", {**DEMO, "user": "bob"}), False),
        (("workspace.delete", DEMO), ("workspace.share", {**DEMO, "user": "bob"}), True),
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
