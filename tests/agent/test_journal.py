"""Changes that were cut off: completed once, in order, with one result and one audit record."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import context, journal
from agent.audit import Attempt
from agent.errors import (
    AgentError,
    CommandFailed,
    InUse,
    LimitReached,
    NotFound,
    ReadOnly,
    Unsupported,
    WaitedTooLong,
)
from agent.journal import Change, Unsettled
from agent.methods import METHODS, workspace
from tests.agent.conftest import Rpc, serve

BY_NAME = {entry.name: entry for entry in METHODS}


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


def assigned_half_way(rpc: Rpc, refusal: AgentError | None) -> None:
    """Leave workspace demo of user ada on its way to bob; more of it is refused, until `refusals` are cleared."""
    for name in ("ada", "bob", "eve"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    cut_off(rpc, "workspace.assign", "workspace.assign", name="demo", user="bob")
    rpc.helper.refusals["workspace.assign"] = refusal


@contextmanager
def taken_up(rpc: Rpc, verb: str) -> Iterator[None]:
    """Be inside of the second run of what was cut off; it ends afterwards."""
    rpc.helper.entered.clear()
    rpc.helper.hold_back(verb)
    taking_up = threading.Thread(target=rpc.dispatcher.resume)
    taking_up.start()
    try:
        assert rpc.helper.entered.wait(10)
        yield
    finally:
        rpc.helper.gate.set()
        taking_up.join()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


@pytest.mark.parametrize("kind", [CommandFailed, InUse, LimitReached, ReadOnly, Unsupported])
def test_a_refusal_that_passes_is_not_the_answer_for_ever(rpc: Rpc, kind: type[AgentError]) -> None:
    rpc.helper.refusals["user.ensure"] = kind("not now")
    rpc.refuses("user.create", kind.code, name="ada", request_id="r1")
    rpc.helper.refusals.clear()
    made = rpc.call("user.create", name="ada", request_id="r1")
    assert rpc.call("user.create", name="ada", request_id="r1") == made


def test_a_command_that_was_cut_off_does_not_run_twice(tmp_path: Path) -> None:
    job: dict[str, Any] = {"name": "demo", "argv": ["date"], "request_id": "r1"}
    with agent(tmp_path) as rpc:
        rpc.call("workspace.create", name="demo")
        rpc.helper.refusals["job.run"] = CommandFailed("the job could not be started")
        rpc.refuses("workspace.exec", 1007, **job)
        rpc.helper.refusals["job.run"] = None
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
    change = rpc.store.change_workspace
    with monkeypatch.context() as patch:
        patch.setattr(
            rpc.store, "change_workspace", lambda name, fields: change(name, fields) if len(fields) < 2 else full()
        )
        assert rpc.refuses("workspace.assign", 1008, name="demo", user="bob")["data"]["pending"]
    assert "workspace.assign demo bob" in str(rpc.call("node.health"))
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["user"] == "bob"
    assert rpc.store.intents() == []


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
    assigned_half_way(rpc, InUse("leases on files in it end within a minute"))
    with taken_up(rpc, "workspace.assign"):
        changes = rpc.dispatcher._journal
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
    monkeypatch.setattr(journal, "LOCK_WAIT_S", 0.1)
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
    changes = rpc.dispatcher._journal
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
    rpc.dispatcher._journal._unsettled[intent.id] = Unsettled(intent)
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
        wait_until(lambda: len(rpc.dispatcher._journal._guard._waiters) == len(waiting))  # type: ignore[attr-defined]
    for thread in waiting:
        thread.join()
    assert [reply["result"]["name"] for reply in replies] == ["ada"] * len(waiting)
    assert [called for called, _ in rpc.helper.calls].count(verb) == 2, "cut off, and taken up once"
    assert [one["outcome"] for one in rpc.audited()][-len(waiting) - 1 :] == ["resumed", *["ok"] * len(waiting)]


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
def test_what_is_no_way_out_of_an_assignment_goes_on_and_leaves_it(
    rpc: Rpc, method: str, params: dict[str, Any]
) -> None:
    assigned_half_way(rpc, CommandFailed("a file resists", pending=True))
    rpc.call(method, **params)
    assert [intent.method for intent in rpc.store.intents()] == ["workspace.assign"]
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["state"] == "ready"


def test_another_assignment_is_a_way_out_of_one(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert len(rpc.store.intents()) == len(rpc.dispatcher._journal._waiting()) == 1
    rpc.refuses("workspace.assign", 1007, name="demo", user="bob", request_id="r1")
    assert [intent.params.get("request_id") for intent in rpc.store.intents()] == ["r1"]
    rpc.refuses("workspace.assign", 1007, name="demo", user="eve")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob", "eve"]
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.assign", name="demo", user="bob")["user"] == "bob"
    assert rpc.store.intents() == []


def test_a_refusal_of_the_same_leaves_what_failed_half_way(rpc: Rpc) -> None:
    assigned_half_way(rpc, CommandFailed("a file resists", pending=True))
    document = rpc.store.get_user("bob")
    assert document
    document.pop("workspaces")
    rpc.store.put_user({**document, "state": "disabled"})
    rpc.refuses("workspace.assign", 1005, name="demo", user="bob")
    assert [intent.params["user"] for intent in rpc.store.intents()] == ["bob"]


DEMO, SITE = {"name": "demo"}, {"workspace": "demo", "name": "site"}


@pytest.mark.parametrize(
    ("later", "earlier", "is_replaced"),
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
def test_what_is_done_makes_an_end_of_what_failed_about_the_same(
    later: tuple[str, dict[str, Any]], earlier: tuple[str, dict[str, Any]], is_replaced: bool
) -> None:
    after, before = (Change.of(BY_NAME[method], params) for method, params in (later, earlier))
    assert after.replaces(before) is is_replaced


def test_a_clone_that_was_cut_off_and_is_made_anew_has_one_record_more(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    clone = {"workspace": "demo", "url": "https://h/site", "request_id": "r1"}
    rpc.helper.refusals["repo.settle"] = None
    cut_off(rpc, "repo.clone", "repo.clone", **clone)
    rpc.helper.refusals.clear()
    assert rpc.call("repo.clone", **clone)["name"] == "site"
    assert [one["outcome"] for one in rpc.audited()][2:] == ["resumed: command_failed", "ok"]


def test_what_waits_for_a_later_change_is_taken_up_after_it(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ada", "bob"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    cut_off(rpc, "workspace.assign", "workspace.assign", name="demo", user="bob")
    # As if it had been begun before.
    clone = rpc.store.begin("repo.clone", {"workspace": "demo", "url": "https://h/site"})
    rpc.store.claim_repo("demo", {"name": "site", "url": "https://h/site", "state": "pending", "token": "0" * 32})
    rpc.dispatcher._journal._unsettled[0] = Unsettled(clone)
    rpc.helper.refusals["repo.settle"] = InUse("the assignment is not finished")
    answer = rpc.helper._answer

    def assign_and_let_settle(verb: str, arguments: dict[str, Any]) -> Any:
        if verb == "workspace.assign":
            rpc.helper.refusals.clear()
        return answer(verb, arguments)

    monkeypatch.setattr(rpc.helper, "_answer", assign_and_let_settle)
    rpc.dispatcher.resume()
    assert rpc.store.intents() == []


def test_a_clone_cut_off_before_it_began_does_not_take_anothers_for_its_own(tmp_path: Path) -> None:
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


def test_what_a_newer_agent_began_waits_for_it_and_holds_up_nothing(tmp_path: Path) -> None:
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
