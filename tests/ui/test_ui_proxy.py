"""Calls of pages, passed on to the agents of nodes."""

from __future__ import annotations

import json
import threading

import pytest

pytestmark = pytest.mark.slow

DIAL = {
    "name": "workspace.dial", "summary": "Open a stream.", "x-mutates": True, "paramStructure": "by-name", "errors": [],
    "params": [{"name": "name", "required": True, "schema": {"type": "string"}}], "result": {"name": "u", "schema": {}},
}  # fmt: skip


def test_a_call_to_a_node_that_is_down_gets_the_reason_as_its_error(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    error = ui.rpc("gone", "workspace.list")["error"]
    assert error["code"] == -32000
    assert "127.0.0.1" in error["message"]
    assert error["data"]["hint"]


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
