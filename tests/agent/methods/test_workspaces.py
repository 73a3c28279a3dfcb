"""workspace.open, update, assign and share over the real socket, and who may have which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared.errors import CommandFailed, Disabled
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import agent, cut_off


@pytest.fixture
def demo(rpc: Rpc) -> Rpc:
    """A front end with the workspace `demo` and the users demo and ada."""
    rpc.call("workspace.create", name="demo", labels={"team": "a"})
    rpc.call("user.create", name="ada")
    return rpc


def test_open_notes_the_time_and_says_how_to_enter(demo: Rpc) -> None:
    opened = demo.call("workspace.open", name="demo")
    assert opened["login"]["user"] == "cs-demo"
    assert opened["login"]["directory"] == opened["path"] == "/srv/codesmith/workspaces/demo"
    assert opened["login"]["host_hint"]
    assert opened["login"]["environment"]["CODESMITH_WORKSPACE"] == "demo"
    assert demo.call("workspace.get", name="demo")["opened_at"] == opened["opened_at"] > opened["created_at"]
    demo.refuses("workspace.open", 1001, name="nobody")


def test_a_workspace_of_a_disabled_user_is_not_entered(demo: Rpc) -> None:
    document = demo.store.get_user("demo")
    assert document
    document.pop("workspaces")
    demo.store.put_user({**document, "state": "disabled"})
    demo.refuses("workspace.open", 1005, name="demo")
    demo.refuses("workspace.exec", 1005, name="demo", argv=["id"])
    assert demo.call("workspace.get", name="demo")["opened_at"] is None


def test_update_merges_labels_and_changes_nothing_else(demo: Rpc) -> None:
    before = demo.call("workspace.get", name="demo")
    assert demo.call("workspace.update", name="demo") == before
    assert before["labels"] == {"team": "a"}
    both = {"team": "a", "b": "c"}
    assert demo.call("workspace.update", name="demo", labels={"b": "c"}) == {**before, "labels": both}
    assert demo.call("workspace.update", name="demo", labels={})["labels"] == both
    changes = {"team": None, "b": "d", "none": None}
    assert demo.call("workspace.update", name="demo", labels=changes)["labels"] == {"b": "d"}
    assert demo.call("workspace.list", labels={"team": "a"}) == []
    many = {f"k{number}": "v" for number in range(32)}
    demo.refuses("workspace.update", 1008, name="demo", labels=many)
    assert demo.call("workspace.update", name="demo", labels={**many, "b": None})["labels"] == many
    demo.refuses("workspace.update", -32602, name="demo", labels={"a b": "c"})
    demo.refuses("workspace.update", 1001, name="nobody", labels={})


def test_an_assigned_workspace_keeps_its_login_and_has_another_user(demo: Rpc) -> None:
    before = demo.call("workspace.get", name="demo")
    assigned = demo.call("workspace.assign", name="demo", user="ada")
    assert assigned == demo.call("workspace.get", name="demo") == {**before, "user": "ada"}
    assert demo.call("user.get", name="ada")["workspaces"] == ["demo"]
    assert demo.call("user.get", name="demo")["workspaces"] == []
    demo.refuses("user.delete", 1004, name="ada")
    # The dedicated user stays, also when its workspace goes.
    assert demo.call("workspace.delete", name="demo")["user_deleted"] is False
    assert demo.call("user.delete", name="demo")["deleted"]


def test_a_workspace_that_is_the_users_already_is_left_alone(demo: Rpc) -> None:
    before, calls = demo.call("workspace.get", name="demo"), len(demo.helper.calls)
    assert demo.call("workspace.assign", name="demo", user="demo") == before
    assert len(demo.helper.calls) == calls, "what runs in it is not ended"


def test_a_dedicated_user_stays_when_another_workspace_of_it_goes(demo: Rpc) -> None:
    demo.call("workspace.create", name="other")
    demo.call("workspace.assign", name="other", user="demo")
    demo.call("workspace.assign", name="demo", user="ada")
    assert demo.call("workspace.delete", name="other")["user_deleted"] is False
    assert demo.call("user.get", name="demo")["state"] == "active"


@pytest.mark.parametrize("method", ["workspace.assign", "workspace.share"])
def test_only_an_active_user_gets_a_workspace(demo: Rpc, method: str) -> None:
    calls = len(demo.helper.calls)
    demo.refuses(method, 1001, name="demo", user="nobody")
    demo.refuses(method, 1001, name="nobody", user="ada")
    demo.refuses(method, -32602, name="demo", user="../x")
    assert len(demo.helper.calls) == calls
    before = demo.call("workspace.get", name="demo")
    demo.helper.refusals[method] = Disabled.user("ada")
    demo.refuses(method, 1005, name="demo", user="ada")
    assert demo.call("workspace.get", name="demo") == before


def test_a_workspace_is_shared_with_users_and_with_them_no_more(demo: Rpc) -> None:
    demo.call("user.create", name="bob")
    for user in ("bob", "ada"):
        shared = demo.call("workspace.share", name="demo", user=user)
    assert shared["shared_with"] == ["ada", "bob"]
    assert demo.call("workspace.list") == [demo.call("workspace.get", name="demo")] == [shared]
    assert demo.call("user.get", name="ada")["workspaces"] == [], "it is not theirs"
    assert demo.call("workspace.assign", name="demo", user="bob")["shared_with"] == ["ada"]
    demo.refuses("workspace.unshare", 1001, name="demo", user="bob")
    assert demo.call("workspace.unshare", name="demo", user="ada")["shared_with"] == []
    assert demo.call("workspace.list")[0]["shared_with"] == []
    demo.refuses("workspace.unshare", 1001, name="demo", user="ada")


def test_with_a_deleted_user_nothing_is_shared_any_more(demo: Rpc) -> None:
    demo.call("workspace.share", name="demo", user="ada")
    demo.call("user.delete", name="ada")
    demo.call("user.create", name="ada")
    assert demo.call("workspace.get", name="demo")["shared_with"] == []
    demo.call("workspace.share", name="demo", user="ada")
    demo.call("workspace.delete", name="demo")
    demo.helper.shares.clear()
    assert demo.call("workspace.create", name="demo")["shared_with"] == []


def test_a_name_is_one_thing(demo: Rpc) -> None:
    assert "a name is one thing" in demo.refuses("workspace.create", 1002, name="ada", user="demo")["message"]
    demo.call("workspace.create", name="site", user="ada")
    assert "a name is one thing" in demo.refuses("user.create", 1002, name="site")["message"]
    # A user and a workspace of one name are a pair.
    assert demo.call("workspace.create", name="ada")["user"] == "ada"
    assert demo.call("user.get", name="ada")["workspaces"] == ["ada", "site"]


def test_an_assignment_that_failed_half_way_is_pending_until_it_is_repeated(demo: Rpc) -> None:
    demo.helper.refusals["workspace.assign"] = CommandFailed("jobs do not end", pending=True)
    demo.refuses("workspace.assign", 1007, name="demo", user="ada")
    assert "workspace.assign demo ada" in str(demo.call("node.health"))
    demo.helper.refusals.clear()
    assert demo.call("workspace.assign", name="demo", user="ada")["user"] == "ada"
    assert demo.store.intents() == []


@pytest.mark.parametrize("method", ["workspace.assign", "workspace.share", "workspace.unshare"])
def test_what_was_cut_off_is_completed_at_the_next_start(tmp_path: Path, method: str) -> None:
    with agent(tmp_path) as rpc:
        rpc.call("workspace.create", name="demo")
        rpc.call("user.create", name="ada")
        if method == "workspace.unshare":
            rpc.call("workspace.share", name="demo", user="ada")
        cut_off(rpc, method, method, name="demo", user="ada")
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        found = rpc.call("workspace.get", name="demo")
        expected = {"workspace.assign": ("ada", []), "workspace.share": ("demo", ["ada"])}
        assert (found["user"], found["shared_with"]) == expected.get(method, ("demo", []))
        assert rpc.store.intents() == []


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("user.get", {}),
        ("user.disable", {}),
        ("user.enable", {}),
        ("user.delete", {}),
        ("user.set_keys", {"ssh_keys": []}),
    ],
)
def test_a_workspace_of_another_user_is_no_user(demo: Rpc, method: str, more: dict[str, object]) -> None:
    demo.call("workspace.create", name="shop", user="ada")
    refusal = demo.refuses(method, 1001, name="shop", **more)
    assert refusal["message"] == "no user 'shop' on this node: 'shop' is a workspace of user 'ada'"
    assert refusal["data"]["hint"] == "inv workspace.get shop"
    assert demo.call("workspace.get", name="shop")["user"] == "ada"
