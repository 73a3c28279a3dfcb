"""Interrupted changes: completed once, in order, with one result and one audit record."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.shared.errors import AgentError, CommandFailed, InUse, LimitReached, ReadOnly, Unsupported
from tests.agent.conftest import Rpc
from tests.agent.frontend.cutting import agent, cut_off, full, names


def test_the_same_call_again_completes_one_that_was_cut_off(rpc: Rpc) -> None:
    cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
    made = rpc.call("user.create", name="ada", request_id="r1")
    assert rpc.store.intents() == []
    assert rpc.call("user.create", name="ada", request_id="r1") == made
    assert [one["outcome"] for one in rpc.audited()] == ["in_use", "resumed", "ok", "ok"]


def test_another_call_for_the_same_gets_the_result_of_the_pending_one(rpc: Rpc) -> None:
    cut_off(rpc, "workspace.ensure", "workspace.create", name="demo", request_id="r1")
    assert rpc.call("workspace.create", name="demo", request_id="r2")["name"] == "demo"
    assert rpc.call("workspace.create", name="demo", request_id="r2")["name"] == "demo"
    rpc.refuses("workspace.create", 1002, name="demo", request_id="r3")


def test_a_pending_change_is_completed_before_the_next_one_that_names_the_same(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
        assert rpc.call("user.delete", name="ada")["deleted"]
        assert rpc.store.intents() == []
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert names(rpc) == []  # not made again


def test_a_change_of_something_else_does_not_wait_for_a_pending_one(rpc: Rpc) -> None:
    cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
    rpc.call("workspace.create", name="demo")
    assert [intent.params["name"] for intent in rpc.store.intents()] == ["ada"]
    assert names(rpc) == ["demo"]


@pytest.mark.parametrize(
    ("method", "before", "after"),
    [
        ("user.create", [], ["ada"]),
        ("user.delete", ["ada"], []),
    ],
)
def test_cut_off_between_the_change_and_its_result_it_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, before: list[str], after: list[str]
) -> None:
    with agent(tmp_path) as rpc:
        for name in before:
            rpc.call("user.create", name=name)
        with monkeypatch.context() as patch:
            patch.setattr(rpc.store, "end", full)
            rpc.refuses(method, 1008, name="ada", request_id="r1")
        assert names(rpc) == before
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert names(rpc) == after
        assert rpc.call(method, name="ada", request_id="r1")["name"] == "ada"
        assert rpc.store.intents() == []


def test_a_refusal_half_way_is_pending_until_the_same_call_completes_it(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    rpc.helper.refusals["user.remove"] = CommandFailed("userdel failed", pending=True)
    rpc.refuses("user.delete", 1007, name="ada", request_id="r1")
    assert [intent.method for intent in rpc.store.intents()] == ["user.delete"]
    rpc.refuses("user.delete", 1007, name="ada", request_id="r1")
    del rpc.helper.refusals["user.remove"]
    assert rpc.call("user.delete", name="ada", request_id="r1")["deleted"]
    assert rpc.store.intents() == []


def test_a_delete_supersedes_a_pending_assignment(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        for name in ("ada", "bob"):
            rpc.call("user.create", name=name)
        rpc.call("workspace.create", name="demo", user="ada")
        rpc.helper.refusals["workspace.assign"] = CommandFailed("a file resists", pending=True)
        rpc.refuses("workspace.assign", 1007, name="demo", user="bob", request_id="r1")
        assert rpc.call("workspace.delete", name="demo")["deleted"]
        assert rpc.store.intents() == []
        assert rpc.call("workspace.list") == []


def test_a_pending_change_that_was_undone_since_is_not_a_result(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    for method in ("user.disable", "user.enable"):
        rpc.helper.refusals[method] = CommandFailed("half-way", pending=True)
        rpc.refuses(method, 1007, name="ada")
    assert len(rpc.store.intents()) == 2
    rpc.helper.refusals.clear()
    assert rpc.call("user.disable", name="ada")["state"] == rpc.call("user.get", name="ada")["state"] == "disabled"
    assert rpc.store.intents() == []


@pytest.mark.parametrize("kind", [CommandFailed, InUse, LimitReached, ReadOnly, Unsupported])
def test_a_refusal_for_a_temporary_reason_is_not_kept(rpc: Rpc, kind: type[AgentError]) -> None:
    rpc.helper.refusals["user.ensure"] = kind("not now")
    rpc.refuses("user.create", kind.code, name="ada", request_id="r1")
    rpc.helper.refusals.clear()
    made = rpc.call("user.create", name="ada", request_id="r1")
    assert rpc.call("user.create", name="ada", request_id="r1") == made


def test_a_command_that_was_cut_off_does_not_run_twice(tmp_path: Path) -> None:
    job: dict[str, Any] = {"name": "demo", "argv": ["date"], "request_id": "r1"}
    with agent(tmp_path) as rpc:
        rpc.call("workspace.create", name="demo")
        rpc.helper.refusals["exec"] = CommandFailed("the job could not be started")
        rpc.refuses("workspace.exec", 1007, **job)
        rpc.helper.refusals["exec"] = None
        assert "may have been carried out" in rpc.refuses("workspace.exec", 1007, **job)["message"]
        rpc.refuses("workspace.exec", -32602, **{**job, "argv": ["id"]})
    with agent(tmp_path) as rpc:
        assert "may have been carried out" in rpc.refuses("workspace.exec", 1007, **job)["message"]
        assert rpc.helper.calls == []
        assert rpc.call("workspace.exec", **{**job, "request_id": "r2"})["exit_code"] == 0


def test_a_store_that_fails_half_way_leaves_the_change_to_be_completed(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ada", "bob"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    with monkeypatch.context() as patch:
        patch.setattr(rpc.store, "change_workspace", full)
        assert rpc.refuses("workspace.assign", 1008, name="demo", user="bob")["data"]["pending"]
    assert "workspace.assign demo bob" in str(rpc.call("node.health"))
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["user"] == "bob"
    assert rpc.store.intents() == []


def test_a_clone_that_was_cut_off_and_is_made_anew_has_one_record_more(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    clone = {"workspace": "demo", "url": "https://h/site", "request_id": "r1"}
    rpc.helper.refusals["repo.settle"] = None
    cut_off(rpc, "repo.clone", "repo.clone", **clone)
    rpc.helper.refusals.clear()
    assert rpc.call("repo.clone", **clone)["name"] == "site"
    assert [one["outcome"] for one in rpc.audited()][2:] == ["resumed: command_failed", "ok"]


def test_an_interrupted_clone_does_not_return_the_repository_of_another_call(tmp_path: Path) -> None:
    repo = {"url": "https://h/site"}
    calls = (
        ("repo.clone", {"workspace": "demo", **repo, "request_id": "r2"}, "repo 'site' exists"),
        ("workspace.create", {"name": "demo", "repo": repo, "request_id": "r3"}, "workspace 'demo' exists"),
    )
    with agent(tmp_path) as rpc:
        made = rpc.call("workspace.create", name="demo", repo=repo, request_id="r1")
        for method, params, _ in calls:
            rpc.store.begin(method, params)
        rpc.store.begin("workspace.create", {"name": "demo", "repo": repo, "request_id": "r1"})
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert rpc.store.intents() == []
        for method, params, problem in calls:
            assert problem in rpc.refuses(method, 1002, **params)["message"]
        assert rpc.call("workspace.create", name="demo", repo=repo, request_id="r1") == made


def test_a_pending_change_of_a_newer_agent_stays_and_holds_up_nothing(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        rpc.store.begin("user.rename", {"name": "ada"})
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert rpc.call("user.create", name="ada")["state"] == "active"
        assert [intent.method for intent in rpc.store.intents()] == ["user.rename"]
        assert "user.rename ada" in str(rpc.call("node.health"))


def test_an_audit_record_that_did_not_reach_its_file_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent(tmp_path) as rpc, monkeypatch.context() as patch:
        patch.setattr("agent.frontend.audit.Audit.write", lambda *_: None)
        rpc.call("user.create", name="ada", request_id="r1")
        assert rpc.audited() == []
    for _ in range(3):
        with agent(tmp_path) as rpc:
            assert [one["method"] for one in rpc.audited()] == ["user.create"]


def power_cut(rpc: Rpc, folder: Path) -> None:
    """Copy what is on disk now to `folder`."""
    for file in rpc.audit.parent.iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)


@pytest.mark.slow
def test_a_command_that_was_cut_off_has_one_record_of_who_called(rpc: Rpc, tmp_path_factory: Any) -> None:
    during, after = tmp_path_factory.mktemp("during"), tmp_path_factory.mktemp("after")
    rpc.call("workspace.create", name="demo")
    rpc.helper.hold_back("exec")
    words = {"name": "demo", "argv": ["word1"], "env": {"A": "word1"}, "stdin": "word1", "request_id": "r1"}
    caller = threading.Thread(target=rpc.call, args=("workspace.exec",), kwargs=words)
    caller.start()
    rpc.helper.wait_for("exec")
    power_cut(rpc, during)
    rpc.helper.gate.set()
    caller.join()
    power_cut(rpc, after)
    assert [one["outcome"] for one in rpc.audited()] == ["ok", "ok"]
    for _ in range(2):
        with agent(during) as again:
            told = again.audited()[1:]
            assert [(one["method"], one["outcome"], one["request_id"]) for one in told] == [
                ("workspace.exec", "cut_off", "r1")
            ]
            assert told[0]["peer_uid"] == os.getuid()
            assert "word1" not in again.audit.read_text() + "".join(again.store.database.connection.iterdump())
        with agent(after) as again:
            assert [one["outcome"] for one in again.audited()] == ["ok", "ok"]


def test_a_command_that_is_refused_has_one_record(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        rpc.refuses("workspace.exec", 1001, name="nothing", argv=["true"])
        rpc.helper.refusals["exec"] = CommandFailed("no", command="systemd-run", exit_code=1, stderr="")
        rpc.call("workspace.create", name="demo")
        rpc.refuses("workspace.exec", 1007, name="demo", argv=["true"])
    for _ in range(2):
        with agent(tmp_path) as rpc:
            assert [one["outcome"] for one in rpc.audited()] == ["not_found", "ok", "command_failed"]


def test_what_is_completed_later_is_recorded_with_who_called(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert [(one["outcome"], one["peer_uid"]) for one in rpc.audited()] == [
            ("in_use", os.getuid()),
            ("resumed", os.getuid()),
        ]
        assert rpc.store.database.all("SELECT * FROM callers") == []


def test_a_change_that_ends_on_a_full_disk_uses_the_disk_reserve(rpc: Rpc) -> None:
    database = rpc.store.database
    rpc.call("user.create", name="ada")
    pages = database.one("PRAGMA page_count")
    database.one(f"PRAGMA max_page_count = {pages[0] if pages else 0}")
    reserve = Path(rpc.store.path).with_name("ballast")
    assert reserve.stat().st_size == 1 << 20
    labels = {f"key{number}": "x" * 250 for number in range(30)}
    rpc.refuses("workspace.create", 1008, name="bob", labels=labels)
    assert not reserve.exists()
    database.one("PRAGMA max_page_count = 100000")
    assert rpc.call("workspace.create", name="bob", labels=labels)["state"] == "ready"
    assert reserve.stat().st_size == 1 << 20
