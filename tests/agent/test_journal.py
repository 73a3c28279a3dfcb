"""Changes that were cut off: completed once, in order, with one result and one audit record."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed
from tests.agent.conftest import Rpc, serve


@contextmanager
def agent(folder: Path) -> Iterator[Rpc]:
    """One life of a front end; nothing is taken up by itself."""
    running = serve(folder)
    try:
        yield next(running)
    finally:
        for _ in running:
            pass


def cut_off(rpc: Rpc, verb: str, method: str, **params: Any) -> None:
    """Make a call whose helper breaks off."""
    rpc.helper.refusals[verb] = None
    rpc.refuses(method, 1004, **params)
    del rpc.helper.refusals[verb]


def full(*_: object) -> int:
    raise sqlite3.OperationalError("database or disk is full")


def names(rpc: Rpc, method: str = "user.list") -> list[str]:
    return [one["name"] for one in rpc.call(method)]


def test_the_same_call_again_completes_one_that_was_cut_off(rpc: Rpc) -> None:
    cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
    made = rpc.call("user.create", name="ada", request_id="r1")
    assert rpc.store.intents() == []
    assert rpc.call("user.create", name="ada", request_id="r1") == made
    assert [one["outcome"] for one in rpc.audited()] == ["in_use", "resumed", "ok", "ok"]


def test_somebody_who_asks_for_the_same_gets_its_result(rpc: Rpc) -> None:
    cut_off(rpc, "workspace.ensure", "workspace.create", name="demo", request_id="r1")
    assert rpc.call("workspace.create", name="demo", request_id="r2")["name"] == "demo"
    assert rpc.call("workspace.create", name="demo", request_id="r2")["name"] == "demo"
    rpc.refuses("workspace.create", 1002, name="demo", request_id="r3")


def test_what_was_cut_off_is_completed_before_what_comes_after_it(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        cut_off(rpc, "user.ensure", "user.create", name="ada", request_id="r1")
        assert rpc.call("user.delete", name="ada")["deleted"]
        assert rpc.store.intents() == []
    with agent(tmp_path) as rpc:
        rpc.dispatcher.resume()
        assert names(rpc) == []  # not made again


def test_what_names_something_else_does_not_wait_for_it(rpc: Rpc) -> None:
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


def test_another_way_out_of_something_half_done_ends_it(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        for name in ("ada", "bob"):
            rpc.call("user.create", name=name)
        rpc.call("workspace.create", name="demo", user="ada")
        rpc.helper.refusals["workspace.assign"] = CommandFailed("a file resists", pending=True)
        rpc.refuses("workspace.assign", 1007, name="demo", user="bob", request_id="r1")
        assert rpc.call("workspace.get", name="demo")["state"] == "pending"
        assert rpc.call("workspace.delete", name="demo")["deleted"]
        assert rpc.store.intents() == []
        assert rpc.call("workspace.list") == []


def test_the_result_of_what_was_undone_since_is_nobodys(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    for method in ("user.disable", "user.enable"):
        rpc.helper.refusals[method] = CommandFailed("half-way", pending=True)
        rpc.refuses(method, 1007, name="ada")
    assert len(rpc.store.intents()) == 2
    rpc.helper.refusals.clear()
    assert rpc.call("user.disable", name="ada")["state"] == rpc.call("user.get", name="ada")["state"] == "disabled"
    assert rpc.store.intents() == []


def test_an_audit_record_that_did_not_reach_its_file_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent(tmp_path) as rpc, monkeypatch.context() as patch:
        patch.setattr("agent.audit.Audit.write", lambda *_: None)
        rpc.call("user.create", name="ada", request_id="r1")
        assert rpc.audited() == []
    for _ in range(3):
        with agent(tmp_path) as rpc:
            assert [one["method"] for one in rpc.audited()] == ["user.create"]


def power_cut(rpc: Rpc, folder: Path) -> None:
    """Keep what is on disk now."""
    for file in rpc.audit.parent.iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)


def test_a_command_that_was_cut_off_has_one_record_of_who_called(rpc: Rpc, tmp_path_factory: Any) -> None:
    during, after = tmp_path_factory.mktemp("during"), tmp_path_factory.mktemp("after")
    rpc.call("workspace.create", name="demo")
    rpc.helper.hold_back("job.run")
    words = {"name": "demo", "argv": ["word1"], "env": {"A": "word1"}, "stdin": "word1", "request_id": "r1"}
    caller = threading.Thread(target=rpc.call, args=("workspace.exec",), kwargs=words)
    caller.start()
    rpc.helper.wait_for("job.run")
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
            assert "word1" not in again.audit.read_text() + "".join(again.store.database._connection.iterdump())
        with agent(after) as again:
            assert [one["outcome"] for one in again.audited()] == ["ok", "ok"]


def test_a_command_that_is_refused_has_one_record(tmp_path: Path) -> None:
    with agent(tmp_path) as rpc:
        rpc.refuses("workspace.exec", 1001, name="nothing", argv=["true"])
        rpc.helper.refusals["job.run"] = CommandFailed("no", command="systemd-run", exit_code=1, stderr="")
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


def test_a_change_that_ends_on_a_full_disk_takes_the_ballast(rpc: Rpc) -> None:
    database = rpc.store.database
    rpc.call("user.create", name="ada")
    pages = database.one("PRAGMA page_count")
    database.one(f"PRAGMA max_page_count = {pages[0] if pages else 0}")
    ballast = Path(rpc.store.path).with_name("ballast")
    assert ballast.stat().st_size == 1 << 20
    labels = {f"key{number}": "x" * 250 for number in range(30)}
    rpc.refuses("workspace.create", 1008, name="bob", labels=labels)
    assert not ballast.exists()
    database.one("PRAGMA max_page_count = 100000")
    assert rpc.call("workspace.create", name="bob", labels=labels)["state"] == "ready"
    assert ballast.stat().st_size == 1 << 20
