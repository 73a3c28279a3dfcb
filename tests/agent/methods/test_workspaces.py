"""workspace.open, update and assign over the real socket. What assign does to a tree is tested in test_handover.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared.errors import CommandFailed, Disabled
from tests.agent.conftest import Rpc, serve


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


def test_update_writes_all_labels_and_nothing_else(demo: Rpc) -> None:
    before = demo.call("workspace.get", name="demo")
    assert demo.call("workspace.update", name="demo") == before
    assert demo.call("workspace.update", name="demo", labels={"b": "c"}) == {**before, "labels": {"b": "c"}}
    assert demo.call("workspace.list", labels={"team": "a"}) == []
    assert demo.call("workspace.update", name="demo", labels={})["labels"] == {}
    demo.refuses("workspace.update", -32602, name="demo", labels={"a b": "c"})
    demo.refuses("workspace.update", 1001, name="nobody", labels={})


def test_an_assigned_workspace_belongs_to_its_new_user(demo: Rpc) -> None:
    assigned = demo.call("workspace.assign", name="demo", user="ada")
    assert (assigned["user"], assigned["login"], assigned["state"]) == ("ada", "cs-ada", "ready")
    assert assigned["labels"] == {"team": "a"}
    assert demo.call("user.get", name="ada")["workspaces"] == ["demo"]
    assert demo.call("user.get", name="demo")["workspaces"] == []
    demo.refuses("user.delete", 1004, name="ada")
    # The dedicated user stays, also when its workspace goes.
    assert demo.call("workspace.delete", name="demo")["user_deleted"] is False
    assert demo.call("user.delete", name="demo")["deleted"]


def test_a_dedicated_user_stays_when_another_workspace_of_it_goes(demo: Rpc) -> None:
    demo.call("workspace.create", name="other")
    demo.call("workspace.assign", name="other", user="demo")
    demo.call("workspace.assign", name="demo", user="ada")
    assert demo.call("workspace.delete", name="other")["user_deleted"] is False
    assert demo.call("user.get", name="demo")["state"] == "active"


def test_only_an_active_user_gets_a_workspace(demo: Rpc) -> None:
    calls = len(demo.helper.calls)
    demo.refuses("workspace.assign", 1001, name="demo", user="nobody")
    demo.refuses("workspace.assign", 1001, name="nobody", user="ada")
    demo.refuses("workspace.assign", -32602, name="demo", user="../x")
    document = demo.store.get_user("ada")
    assert document
    document.pop("workspaces")
    demo.store.put_user({**document, "state": "disabled"})
    demo.refuses("workspace.assign", 1005, name="demo", user="ada")
    assert len(demo.helper.calls) == calls
    assert demo.call("workspace.get", name="demo")["user"] == "demo"


def test_an_assignment_that_failed_half_way_is_pending_until_it_is_repeated(demo: Rpc) -> None:
    failure = CommandFailed("no space", command="workspace.assign", exit_code=28, stderr="", pending=True)
    demo.helper.refusals["workspace.assign"] = failure
    demo.refuses("workspace.assign", 1007, name="demo", user="ada")
    assert demo.call("workspace.get", name="demo")["state"] == "pending"
    for method, params in (("workspace.open", {}), ("workspace.exec", {"argv": ["id"]})):
        assert "inv workspace.assign demo" in demo.refuses(method, 1004, name="demo", **params)["data"]["hint"]
    demo.helper.refusals.clear()
    assert demo.call("workspace.assign", name="demo", user="ada")["state"] == "ready"
    assert demo.call("workspace.open", name="demo")["login"]["user"] == "cs-ada"


def test_an_assignment_that_was_refused_at_once_changes_nothing(demo: Rpc) -> None:
    demo.helper.refusals["workspace.assign"] = Disabled("disabled")
    demo.refuses("workspace.assign", 1005, name="demo", user="ada")
    assert demo.call("workspace.get", name="demo")["state"] == "ready"


def test_an_assignment_that_was_cut_off_is_completed_at_the_next_start(tmp_path: Path) -> None:
    first = serve(tmp_path)
    rpc = next(first)
    rpc.call("workspace.create", name="demo")
    rpc.call("user.create", name="ada")
    rpc.helper.refusals["workspace.assign"] = None
    rpc.refuses("workspace.assign", 1004, name="demo", user="ada")
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    for _ in first:
        pass
    second = serve(tmp_path)
    rpc = next(second)
    rpc.dispatcher.resume()
    found = rpc.call("workspace.get", name="demo")
    assert (found["user"], found["state"]) == ("ada", "ready")
    for _ in second:
        pass
