"""What pages are told of nodes, as it changes: polled once for all pages, and only while one is open."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import pytest

from codesmith.errors import CodeSmithError
from codesmith.ui import poller
from codesmith.ui.poller import LOOK_S
from codesmith.ui.store import Store, Watcher
from tests.ui.stand_in import CONTRACT

pytestmark = pytest.mark.slow

USAGE = {
    "name": "workspace.usage", "summary": "Return usage.", "x-mutates": False, "paramStructure": "by-name",
    "errors": [], "params": [{"name": "name", "required": True, "schema": {"type": "string"}}],
    "result": {"name": "u", "schema": {}},
}  # fmt: skip


def test_a_page_of_all_nodes_gets_a_line_for_each(serve):
    ui = serve("web1", "db1")
    ui.nodes["web1"].add("shop")
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: all(now.node(name).get("state") == "ready" for name in ("web1", "db1")))
        page.until(lambda now: now.node("web1").get("names") == ["shop"])
        web1 = page.node("web1")
        assert (web1["state"], web1["agent_version"], web1["health"], web1["tags"]) == (
            "ready",
            "0.1.0",
            "ok",
            ["tag-web1"],
        )
        assert {key for _, key in page.state if not key.startswith(("action/", "registry"))} == {"node"}


def test_a_page_of_a_node_or_workspace_gets_what_it_shows_and_no_more(ui):
    tokens = {}
    for number, name in enumerate(("shop", "other")):
        ui.nodes["web1"].add(name)
        tokens[name] = ui.nodes["web1"].token_create(name, f"{number:064x}")["id"]
    with ui.events(node="web1") as page:
        page.until(
            lambda now: now.get("web1", "workspace/other") and now.get("web1", "info") and now.get("web1", "user/shop")
        )
    with ui.events(node="web1", workspace="shop") as page:
        page.until(lambda now: now.get("web1", f"token/shop/{tokens['shop']}") and now.get("web1", "user/shop"))
        assert page.get("web1", "workspace/shop") is not None
        assert page.get("web1", "workspace/other") is None
    with ui.events(node="web1", workspace="other") as page:
        page.until(lambda now: now.get("web1", f"token/other/{tokens['other']}"))
        assert not [key for _, key in page.state if key.startswith("token/shop/")]


@pytest.mark.parametrize("view", [{}, {"node": "web1"}, {"node": "web1", "workspace": "late"}])
def test_a_change_made_anywhere_is_told_by_itself(ui, view):
    assert LOOK_S < 1
    with ui.events(**view) as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        ui.nodes["web1"].add("late")
        page.until(lambda now: now.node("web1")["names"] == ["late"] or now.get("web1", "workspace/late"))
        ui.nodes["web1"].workspaces.clear()
        ui.nodes["web1"].note("workspace.delete", {"name": "late"})
        page.until(lambda now: not now.node("web1")["names"])
        assert page.get("web1", "workspace/late") is None


def test_one_poller_looks_at_a_node_whoever_watches(ui):
    agent = ui.nodes["web1"]
    with ui.events() as one:
        one.until(lambda now: now.node("web1").get("state") == "ready")
        with ui.events() as two, ui.events(node="web1") as three:
            for page in (two, three):
                page.until(lambda now: now.node("web1").get("state") == "ready")
            agent.calls.clear()
            time.sleep(2.2)
            # A look every half second, and one of the lists, for three pages as for one.
            assert 2 <= agent.calls.count("audit.list") <= 6
            assert agent.calls.count("workspace.list") <= 2


def test_nothing_is_asked_while_nobody_watches(ui):
    agent = ui.nodes["web1"]
    with ui.events() as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
    deadline = time.monotonic() + 5
    while ui.server.pages.is_watched:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(poller.LOOK_S * 2)
    agent.calls.clear()
    time.sleep(poller.LOOK_S * 3)
    assert agent.calls == []


def test_a_page_only_lists_and_gets(serve):
    """No look of a page is a method that changes something: none starts a runtime or counts as use."""
    ui = serve("web1", extra={"workspace.usage": (USAGE, lambda name: {"memory_bytes": 1})})
    ui.enter()
    agent = ui.nodes["web1"]
    agent.add("shop", runtime={"state": "stopped", "since": None, "idle_stop_at": None})
    agent.add("busy", runtime={"state": "running", "since": "2026-11-29T20:00:00Z", "idle_stop_at": None})
    with ui.events(node="web1", workspace="shop") as quiet, ui.events(node="web1", workspace="busy") as page:
        page.until(lambda now: now.get("web1", "usage/busy"))
        assert page.get("web1", "usage/busy")["points"][0]["memory_bytes"] == 1
        quiet.until(lambda now: now.get("web1", "workspace/shop"))
        with ui.events(node="web1") as whole:
            whole.until(lambda now: now.get("web1", "workspace/busy"))
            assert whole.get("web1", "usage/busy") is None
    mutating = {entry["name"] for entry in CONTRACT["methods"] if entry["x-mutates"]}
    assert not mutating & set(agent.calls)
    assert {params["name"] for method, params in agent.requests if method == "workspace.usage"} == {"busy"}


def test_a_runtime_that_a_newer_agent_tells_is_on_the_page_as_it_is(ui):
    runtime = {"state": "running", "since": "2026-11-29T20:00:00Z", "idle_stop_at": None}
    ui.nodes["web1"].add("shop", runtime=runtime, shared_with=["ada"], what_comes_later={"a": [1]})
    with ui.events(node="web1", workspace="shop") as page:
        page.until(lambda now: now.get("web1", "workspace/shop"))
        row = page.get("web1", "workspace/shop")
        assert (row["runtime"], row["shared_with"], row["what_comes_later"]) == (runtime, ["ada"], {"a": [1]})


def test_a_node_without_connection_is_told_with_its_reason_and_the_next_command(serve):
    ui = serve("web1", "gone", without=("gone",))
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: now.node("gone").get("state") == "down" and now.node("web1").get("state") == "ready")
        gone = page.node("gone")
        assert "127.0.0.1" in gone["reason"]
        assert gone["kind"] in ("Unreachable", "HostKeyUnknown")
        assert gone["hint"]
        assert abs(gone["since"] - time.time()) < 20


def test_an_agent_that_goes_and_comes_back_is_told_both_times(serve):
    ui = serve("web1")
    ui.nodes["web1"].add("shop")
    ui.enter()
    with ui.events(node="web1") as page:
        page.until(lambda now: now.get("web1", "workspace/shop"))
        ui.nodes["web1"].stop()
        page.until(lambda now: now.node("web1")["state"] == "down")
        assert page.node("web1")["reason"]
        assert page.get("web1", "workspace/shop"), "what was known stays on the page"
        ui.nodes["web1"].start()
        page.until(lambda now: now.node("web1")["state"] == "ready")
        assert page.node("web1")["reason"] == ""


def test_nodes_that_are_added_to_the_file_appear_and_removed_ones_go(serve):
    ui = serve("web1", "db1")
    file = ui.server.nodes.file
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: now.node("db1"))
        data = json.loads(file.read_text())
        del data["nodes"]["db1"]
        data["nodes"]["new1"] = {"host": "127.0.0.1", "port": 1}
        file.write_text(json.dumps(data))
        page.until(lambda now: now.node("new1") and not now.node("db1"))
        file.write_text("nodes: [")
        page.until(lambda now: now.get("", "registry")["problem"])
        assert page.node("web1"), "what was known stays"


def test_files_that_nodes_yaml_includes_are_followed_too(serve):
    ui = serve("web1")
    file = ui.server.nodes.file
    more = file.parent / "hosts"
    more.write_text("a1 ansible_host=127.0.0.1 ansible_port=1\n")
    file.write_text(json.dumps({**json.loads(file.read_text()), "include": ["hosts"]}))
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: now.node("a1"))
        more.write_text("b1 ansible_host=127.0.0.1 ansible_port=1\n")
        page.until(lambda now: now.node("b1") and not now.node("a1"))


def test_a_page_is_told_what_it_missed_when_it_comes_again(ui):
    with ui.events(node="web1") as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
    ui.nodes["web1"].add("meanwhile")
    with ui.events(node="web1") as page:
        page.until(lambda now: now.get("web1", "workspace/meanwhile"))


def test_a_watcher_gets_changes_and_not_what_stayed():
    class Loop:
        def call_soon_threadsafe(self, wake):
            self.woken = True

    store = Store()
    watcher = Watcher(store, Loop(), node="web1")
    store.put("web1", {"node": {"a": 1}, "info": {"b": 1}})
    assert watcher.changes() == {"web1": {"set": {"node": {"a": 1}, "info": {"b": 1}}, "gone": []}}
    store.put("web1", {"node": {"a": 1}, "info": {"b": 2}})
    assert watcher.changes() == {"web1": {"set": {"info": {"b": 2}}, "gone": []}}
    store.drop("web1")
    assert sorted(watcher.changes()["web1"]["gone"]) == ["info", "node"]
    assert watcher.changes() == {}


def test_a_page_of_fifty_nodes_and_a_thousand_workspaces_follows(serve):
    """One page of all of them shows a change; bench P20 has the times and the memory."""
    names = tuple(f"n{number:02d}" for number in range(50))
    ui = serve(*names)
    for agent in ui.nodes.values():
        for number in range(20):
            agent.add(f"w{number}")
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: all(now.node(name).get("state") == "ready" for name in names))
        ui.nodes["n42"].add("late")
        page.until(lambda now: "late" in now.node("n42")["names"])


def test_a_node_that_says_nothing_is_told_long_before_its_call_is_given_up(ui):
    agent = ui.nodes["web1"]
    with ui.events() as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        answers = threading.Event()
        agent.audit_list = lambda **_: answers.wait(60) and []
        page.until(lambda now: now.node("web1")["state"] == "silent")
        assert "no answer for" in page.node("web1")["reason"]
        del agent.audit_list
        answers.set()
        page.until(lambda now: now.node("web1")["state"] == "ready" and not now.node("web1")["reason"])


@pytest.mark.parametrize("how", ["stopped", "gone", "another"])
def test_usage_goes_with_its_runtime_and_its_workspace(serve, monkeypatch, how):
    monkeypatch.setattr(poller, "USAGE_S", float("inf"))
    ui = serve("web1", extra={"workspace.usage": (USAGE, lambda name: {"memory_bytes": 1})})
    ui.enter()
    agent = ui.nodes["web1"]
    agent.add("shop", id="first", runtime={"state": "running", "since": None, "idle_stop_at": None})
    with ui.events(node="web1", workspace="shop") as page:
        page.until(lambda now: now.get("web1", "usage/shop"))
        if how == "stopped":
            agent.workspaces["shop"]["runtime"] = {"state": "stopped", "since": None, "idle_stop_at": None}
        elif how == "another":
            agent.workspaces["shop"]["id"] = "second"
        else:
            agent.workspaces.clear()
        agent.note("workspace.delete", {"name": "shop"})
        page.until(lambda now: not now.get("web1", "usage/shop"))


def test_a_node_that_died_unwatched_is_not_said_to_be_ready(monkeypatch):
    ready, died, left, connects, goes = (threading.Event() for _ in range(5))

    class Client:
        def __init__(self, node):
            pass

        def __enter__(self):
            if died.is_set():
                connects.set()
                goes.wait(20)
                raise CodeSmithError("gone")
            return self

        def __exit__(self, *_):
            left.set()

        def call(self, method, params=None):
            if store.get("web1", "node")["state"] == "ready":
                ready.set()
            return [] if method.endswith(".list") else {}

    monkeypatch.setattr(poller, "Client", Client)
    monkeypatch.setattr(poller, "endpoint_path", lambda _: "none")
    monkeypatch.setattr(poller, "SILENT_S", 0.0)
    store = Store()
    contracts = SimpleNamespace(of=lambda _: {})
    one = poller.Poller(SimpleNamespace(name="web1", place="web1", tags=(), labels={}), store, contracts)
    one.start()
    one.watch(())
    one.look_now()
    assert ready.wait(20)
    died.set()
    one.unwatch()
    one.look_now()
    assert left.wait(20)
    one.watch(())
    assert connects.wait(20)
    assert store.get("web1", "node")["state"] == "connecting"
    one.notice_silence()
    assert store.get("web1", "node")["state"] == "silent"
    one.end()
    goes.set()
    one.join(20)
