"""What the server tells its pages, how it passes calls on, and what happens when a node or a page goes."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from codesmith.errors import CodeSmithError
from codesmith.ui import commands, journal, poller, server
from codesmith.ui.poller import LOOK_S
from codesmith.ui.store import Store, Watcher
from tests.ui.conftest import Ui
from tests.ui.stand_in import CONTRACT

pytestmark = pytest.mark.slow

USAGE = {
    "name": "workspace.usage", "summary": "Return usage.", "x-mutates": False, "paramStructure": "by-name",
    "errors": [], "params": [{"name": "name", "required": True, "schema": {"type": "string"}}],
    "result": {"name": "u", "schema": {}},
}  # fmt: skip
DIAL = {**USAGE, "name": "workspace.dial", "x-mutates": True}


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


def test_a_call_to_a_node_that_is_down_gets_the_reason_as_its_error(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    error = ui.rpc("gone", "workspace.list")["error"]
    assert error["code"] == -32000
    assert "127.0.0.1" in error["message"]
    assert error["data"]["hint"]


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


def test_a_call_is_passed_on_and_its_answer_comes_back_as_it_is(ui):
    ui.nodes["web1"].add("shop")
    assert ui.rpc("web1", "workspace.get", name="shop")["result"]["login"] == "cs-shop"
    answer = ui.rpc("web1", "workspace.get", name="none")
    assert (answer["id"], answer["error"]["code"], answer["error"]["data"]["kind"]) == (7, 1001, "not_found")
    answer = ui.rpc("web1", "sandbox.create", workspace="shop", limits={"memory_bytes": 1})
    assert answer["error"]["code"] == -32602
    assert [one["field"] for one in answer["error"]["data"]["errors"]] == ["limits"]


def test_a_change_is_repeated_under_its_own_request_id(ui):
    first = ui.rpc("web1", "workspace.create", name="shop", request_id="mine-1")
    again = ui.rpc("web1", "workspace.create", name="shop", request_id="mine-1")
    assert first["result"] == again["result"]
    assert ui.nodes["web1"].requests[-1] == ("workspace.create", {"name": "shop", "request_id": "mine-1"})


def test_a_method_that_takes_no_request_id_gets_none(serve):
    ui = serve("web1", extra={"workspace.dial": (DIAL, lambda name: {"token": "x"})})
    ui.enter()
    assert ui.rpc("web1", "workspace.dial", name="shop")["result"] == {"token": "x"}
    assert ("workspace.dial", {"name": "shop"}) in ui.nodes["web1"].requests


def test_a_batch_is_answered_as_one_and_a_notification_not_at_all(ui):
    one = {"jsonrpc": "2.0", "id": "a", "method": "node.version", "params": {}}
    silent = {"jsonrpc": "2.0", "method": "workspace.create", "params": {"name": "x"}}
    status, _, body = ui.post("/nodes/web1/rpc", [one, silent, 7])
    assert status == 200
    assert [part["id"] for part in json.loads(body)] == ["a", None]
    assert ui.post("/nodes/web1/rpc", silent)[::2] == (204, b"")
    assert "workspace.create" not in ui.nodes["web1"].calls
    assert ui.post("/nodes/web1/rpc", [one] * 17)[2].count(b"error") == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b'"x"', b"null", b"[]", b"7", b"\xff", b"[" * 10000, b'{"jsonrpc":"2.0","id":1}']
)
def test_what_is_no_request_is_an_error_and_not_passed_on(ui, body):
    status, _, answer = ui.send("POST", "/nodes/web1/rpc", ui.headers(), body)
    assert status == 200
    assert json.loads(answer)["error"]["code"] in (-32700, -32600)
    assert ui.nodes["web1"].calls == []


@pytest.mark.parametrize("params", [{"id": None}, {"id": True}, {"id": 1.5}, {"params": ["x"]}, {"method": 7}])
def test_a_malformed_request_is_refused(ui, params):
    request = {"jsonrpc": "2.0", "id": 1, "method": "node.version", **params}
    status, _, answer = ui.post("/nodes/web1/rpc", request)
    assert status == 200
    assert json.loads(answer)["error"]["code"] in (-32602, -32600)


def test_a_node_that_nobody_has_named_is_404(ui):
    for path, body in (
        ("/nodes/none/rpc", {}),
        ("/events", {"node": "none"}),
        ("/actions", {"kind": "plan", "nodes": ["none"]}),
    ):
        status, _, answer = ui.post(path, body)
        assert status == 404
        assert "none" in json.loads(answer)["error"]["problem"]


def test_a_long_call_holds_up_no_other(ui):
    agent = ui.nodes["web1"]
    agent.add("shop")
    agent.slow.clear()
    slow = [
        threading.Thread(target=ui.rpc, args=("web1", "workspace.exec"), kwargs={"name": "shop", "argv": ["x"]})
        for _ in range(20)
    ]
    for one in slow:
        one.start()
    try:
        assert ui.rpc("web1", "workspace.list")["result"]
    finally:
        agent.slow.set()
        for one in slow:
            one.join()


def test_an_action_goes_on_and_is_told_to_every_page(serve):
    """Doctor of a node that cannot be reached: its findings say so, also on a page that was opened later."""
    ui = serve("gone", without=("gone",))
    ui.enter()
    status, _, body = ui.post("/actions", {"kind": "doctor", "nodes": ["gone"]})
    assert status == 200
    (number,) = json.loads(body)["ids"]
    with ui.events() as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")
        findings = page.get("", f"action/{number}")["result"]["findings"]
    assert {"ok", "fail"} <= {one["status"] for one in findings}
    with ui.events(node="gone") as page:
        page.until(lambda now: now.get("", f"action/{number}"))


def test_a_plan_that_fails_says_why(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    (number,) = json.loads(ui.post("/actions", {"kind": "plan", "nodes": ["gone"]})[2])["ids"]
    with ui.events() as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "failed")
        action = page.get("", f"action/{number}")
    assert "127.0.0.1" in action["problem"]
    assert action["hint"]


@pytest.mark.parametrize("body", [{}, {"kind": "plan"}, {"kind": 1, "nodes": []}, {"kind": "plan", "nodes": "web1"}])
def test_an_action_that_is_none_is_refused(ui, body):
    assert ui.post("/actions", body)[0] in (400, 409)
    assert ui.post("/actions", {"kind": "uninstall", "nodes": ["web1"]})[0] == 409


def test_a_second_click_is_no_second_action(serve, monkeypatch):
    from codesmith.ui import actions

    ui = serve("web1")
    ui.enter()
    hold = threading.Event()
    monkeypatch.setitem(actions.KINDS, "doctor", lambda node, say: hold.wait(10) and {"findings": []})
    ids = [json.loads(ui.post("/actions", {"kind": "doctor", "nodes": ["web1"]})[2])["ids"] for _ in range(3)]
    hold.set()
    assert ids[0] == ids[1] == ids[2]


def test_a_page_is_told_what_it_missed_when_it_comes_again(ui):
    with ui.events(node="web1") as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
    ui.nodes["web1"].add("meanwhile")
    with ui.events(node="web1") as page:
        page.until(lambda now: now.get("web1", "workspace/meanwhile"))


def test_no_answer_waits_for_an_acknowledgement(ui):
    """Without TCP_NODELAY each file of a page and each call takes 40 ms more."""
    with ui.events(node="web1") as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        there = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
        ours = [one for one in there if one.family == socket.AF_INET and one.getsockname()[1] == ui.port]
        served = [one for one in ours if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        assert served
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in served)


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


def test_pages_that_nobody_uses_end(serve):
    ui = serve("web1", idle_s=1.5)
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        assert not ui.join(2.5), "a page is open"
    assert not ui.join(0.7), "the time is counted from the page's end"
    assert ui.join(10)


def test_a_socket_has_the_operators_mode_and_goes_with_the_server(codesmith_home):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    path = codesmith_home / "ui.sock"
    one = server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml")
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = one.access.address
        assert _enter(path, first.partition("=")[2]) == 200
        assert _enter(path, first.partition("=")[2]) == 401, "each token lets one browser in"
        assert one.access.file.exists()
        assert _enter(path, one.access.address.partition("=")[2]) == 200, "there is always a next one"
    finally:
        one.stop()
        thread.join(10)
        one.__exit__()
    assert not path.exists()
    assert not one.access.file.exists()


def _enter(path, token):
    connection = http.client.HTTPConnection("127.0.0.1:8790")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    headers = {"Origin": "http://127.0.0.1:8790", "Content-Type": "application/json"}
    connection.request("POST", "/enter", json.dumps({"token": token}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_socket_in_use_is_not_taken(codesmith_home):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    path = codesmith_home / "ui.sock"
    with server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml"):
        with pytest.raises(CodeSmithError, match="is served by another process"):
            server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml")


@pytest.mark.parametrize(
    "origin", ["evil", "http://x/", "http://a b", "ftp://x", "http://127.0.0.1:80", "https://x:443", "http://X"]
)
def test_an_origin_that_browsers_name_otherwise_is_refused(codesmith_home, origin):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    with pytest.raises(CodeSmithError, match="--origin takes"):
        commands.serve_pages("", origin, str(codesmith_home / "nodes.yaml"), read_only=False, json=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_commands_end_by_a_signal_and_leave_nothing(codesmith_home, number):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    environment = {**os.environ, "CODESMITH_NODES": str(codesmith_home / "nodes.yaml")}
    for words in (["ui.open", "--print", "--json"], ["ui.serve", "--json"]):
        command = [sys.executable, "-m", "codesmith", *words]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            said = ""
            while not said.rstrip().endswith("}"):
                said += process.stdout.readline()
            row = json.loads(said)
            files = [row["file"], *([row["socket"]] if "socket" in row else [])]
            assert all(os.path.exists(file) for file in files)
            process.send_signal(number)
            assert process.wait(15) == 0, process.stderr.read()
        assert not any(os.path.exists(file) for file in files)


def test_without_its_packages_the_command_says_how_to_install_them(monkeypatch, codesmith_home):
    from codesmith.ui import requirements

    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(CodeSmithError, match="the admin UI needs jinja2, starlette, uvicorn") as caught:
        commands.open_pages("", read_only=False, prints=True, idle_s=1, json=False)
    assert "codesmith[ui]" in caught.value.hint


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


FOLLOWED = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (open(sys.argv[1], "w").write("ended"), sys.exit(0)))
print("first", flush=True)
time.sleep(1)
print("second", flush=True)
time.sleep(60)
"""


def test_a_journal_is_told_as_it_grows_and_ends_when_nobody_looks(ui, tmp_path, monkeypatch):
    command = (sys.executable, "-c", FOLLOWED, str(tmp_path / "end"))
    monkeypatch.setattr(journal, "command_for", lambda node: command)
    with ui.events(node="web1") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["web1"]})[2])["ids"]
        page.until(lambda now: now.get("web1", "journal/web1") == ["first"])
        page.until(lambda now: now.get("web1", "journal/web1") == ["first", "second"])
    deadline = time.monotonic() + 15
    while not (tmp_path / "end").exists():
        assert time.monotonic() < deadline, "it goes on though no page is open"
        time.sleep(0.1)
    with ui.events(node="web1") as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")


def test_a_journal_is_stopped_on_request(ui, tmp_path, monkeypatch):
    command = (sys.executable, "-c", FOLLOWED, str(tmp_path / "end"))
    monkeypatch.setattr(journal, "command_for", lambda node: command)
    with ui.events(node="web1") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["web1"]})[2])["ids"]
        page.until(lambda now: now.get("web1", "journal/web1"))
        ui.post("/actions", {"kind": "stop-logs", "nodes": ["web1"]})
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")
    assert (tmp_path / "end").exists()


def test_a_journal_that_cannot_be_read_says_why(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    with ui.events(node="gone") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["gone"]})[2])["ids"]
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "failed")
        action = page.get("", f"action/{number}")
    assert "127.0.0.1" in action["problem"]
    assert action["hint"]


def test_a_long_call_does_not_keep_the_pages_from_their_end(serve):
    ui = serve("web1")
    agent, file = ui.nodes["web1"], ui.server.nodes.file
    agent.add("shop")
    command = [sys.executable, "-m", "codesmith", "ui.open", "--print", "--json", "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while not said.rstrip().endswith("}"):
            said += process.stdout.readline()
        row = json.loads(said)
        other = Ui.at(row["address"])
        agent.slow.clear()
        call = threading.Thread(target=_lost, args=(other,))
        call.start()
        while "workspace.exec" not in agent.calls:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 0
        agent.slow.set()
        call.join()


def _lost(ui):
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        ui.rpc("web1", "workspace.exec", name="shop", argv=["sleep"])
