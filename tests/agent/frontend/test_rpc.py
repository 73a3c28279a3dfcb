"""JSON-RPC over the real socket: requests, answers and refusals."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from agent.contract import examples
from agent.frontend import http_server
from agent.methods import METHODS
from agent.shared.errors import InUse
from tests.agent.conftest import CONTRACT, Rpc

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"


def test_discover_serves_the_contract(rpc: Rpc) -> None:
    assert rpc.call("rpc.discover") == CONTRACT
    one = {"jsonrpc": "2.0", "id": 'a"\u2028', "method": "rpc.discover"}
    answer = {"jsonrpc": "2.0", "id": 'a"\u2028', "result": CONTRACT}
    assert rpc.answer([one, {**one, "id": None}]) == [answer, {**answer, "id": None}]


def test_curl_can_call(rpc: Rpc) -> None:
    request = '{"jsonrpc":"2.0","id":1,"method":"node.version"}'
    command = ["curl", "-sS", "--unix-socket", rpc.path, "http://node/", "-d", request]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answer["result"]["node_id"] == "node"


def test_one_connection_serves_many_calls(rpc: Rpc) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"node.version"}'
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with rpc.connect() as connection:
        file = connection.makefile("rb")
        for _ in range(5):
            connection.sendall(head + body)
            assert file.readline().startswith(b"HTTP/1.1 200")
            size = 0
            for line in iter(file.readline, b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            assert json.loads(file.read(size))["result"]["agent"]
        file.close()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"1", -32600),
        (b"", -32700),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"node.version"} {}', -32700),
        (b'{"jsonrpc":"2.0","id":true,"method":"node.version"}', -32600),
        (b'{"jsonrpc":2.0,"id":1,"method":"node.version"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"node.version","params":null}', -32600),
        (b'{"jsonrpc":"1.0","method":"node.version"}', -32600),
        (b'{"jsonrpc":"2.0","method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"node.version"}', -32600),
        (b'{"id":1,"method":"node.version"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"node.version"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"node.version","params":5}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"no.such"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"user.get","params":["ada"]}', -32602),
    ],
)
def test_malformed_requests_get_the_standard_error(rpc: Rpc, request_: bytes, code: int) -> None:
    kinds = {-32700: "parse_error", -32600: "invalid_request", -32601: "method_not_found", -32602: "invalid_params"}
    answer = rpc.answer(request_)
    assert answer["error"]["code"] == code
    assert answer["error"]["data"]["kind"] == kinds[code]
    assert "Traceback" not in json.dumps(answer)
    assert rpc.call("node.version")


@pytest.mark.parametrize(
    "request_",
    [
        '{"jsonrpc":"2.0","id":1,"method":"workspace.exec","params":{"env":{"T":"word1"},"timeout_s":NaN}}',
        '{"method":"user.create","params":{"name":"zzz","x":"word1"}}',
        '{"jsonrpc":"2.0","id":1,"method":7,"params":{"credential":{"token":"word1"}}}',
        '{"jsonrpc":"2.0","id":1,"method":"user.create","params":{"name":"ada","ssh_keys":[7,"word1"]}}',
        '[{"id":1,"method":"repo.clone","params":{"credential":{"token":"word1"}}}]',
        "word1",
    ],
)
def test_what_is_refused_is_neither_quoted_nor_logged(
    rpc: Rpc, request_: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = rpc.answer(request_.encode())
    assert "error" in (answer[0] if isinstance(answer, list) else answer)
    assert "word1" not in json.dumps(answer)
    assert "word1" not in "".join(capfd.readouterr())


def test_words_of_the_caller_do_not_steer_a_terminal(rpc: Rpc) -> None:
    error = rpc.refuses("user.get", -32602, **{"name": "ada", "\x1b[31m\n\u202e\ud800": 1})
    assert error["data"]["errors"][0]["field"] == r"\x1b[31m\n\u202e\ud800"
    assert error["message"].isprintable()
    assert rpc.refuses("no\x1b[31m", -32601)["message"].isprintable()


def test_names_of_files_do_not_steer_a_terminal(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/tmp/é \x1b[31m\n\udcff"
    shown = r"/tmp/é \x1b[31m\n\udcff"
    for name in ("ada", "demo"):
        rpc.call("workspace.create" if name == "demo" else "user.create", name=name)
    rpc.helper.refusals["workspace.remove"] = InUse(f"a file system is mounted at {path}")
    assert rpc.refuses("workspace.delete", 1004, name="demo")["message"].endswith(f" {shown}")
    del rpc.helper.refusals["workspace.remove"]
    monkeypatch.setattr(rpc.helper, "answer", lambda *_: {"leftovers": [path], "user_removed": True})
    assert rpc.call("user.delete", name="ada")["leftovers"] == [shown]
    assert rpc.call("workspace.delete", name="demo")["leftovers"] == [shown]


def test_id_survives_a_failing_call(rpc: Rpc) -> None:
    for identity in (0, "x", -1, None):
        answer = rpc.answer({"jsonrpc": "2.0", "id": identity, "method": "user.get", "params": {"name": "nobody"}})
        assert answer["id"] == identity
        assert answer["error"]["data"]["kind"] == "not_found"


def test_batch_answers_each_and_holds_at_most_sixteen(rpc: Rpc) -> None:
    one = {"jsonrpc": "2.0", "method": "node.version"}
    answers = rpc.answer([{**one, "id": 1}, one, {**one, "id": 2, "method": "no.such"}])
    assert [(answer["id"], "error" in answer) for answer in answers] == [(1, False), (2, True)]
    assert rpc.answer([{**one, "id": n} for n in range(17)])["error"]["code"] == -32600
    assert len(rpc.answer([{**one, "id": n} for n in range(16)])) == 16


def test_http_accepts_only_plain_posts(rpc: Rpc) -> None:
    assert rpc.raw(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 405
    assert rpc.raw(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")[0] == 404
    assert rpc.raw(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 411
    assert rpc.post(b"{}", "Content-Encoding: gzip")[0] == 415
    assert rpc.post(b"{}", "Transfer-Encoding: chunked")[0] == 411
    for length in ("2", "+2", "-2", "2_0", "0x2", "2, 2", "9" * 30):
        assert rpc.post(b"{}", f"Content-Length: {length}")[0] == 400
    for header in (" folded: 1", "no colon", "Space : 1", ": 1", "\tX: 1"):
        assert rpc.post(b"{}", header)[0] == 400
    huge = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n"
    assert rpc.raw(huge)[0] == 413


@pytest.mark.parametrize(
    "text",
    [
        "GET / HTTP/1.1",
        "PUT / HTTP/1.1",
        "POST /x HTTP/1.1\r\nContent-Length: 2",
        "POST / HTTP/1.1",
        "POST / HTTP/9.9",
        "POST / HTTP/1.1\r\nContent-Length: 999999",
        "POST /ssh-agent HTTP/1.1",
        "POST / HTTP/1.1" + "\r\na: b" * 200,
    ],
)
def test_refusals_of_http_are_errors_of_the_contract_too(rpc: Rpc, text: str) -> None:
    with rpc.connect() as connection:
        connection.sendall(f"{text}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    error = json.loads(answer.partition(b"\r\n\r\n")[2] or answer)["error"]
    assert (error["code"], error["data"]) == (-32600, {"kind": "invalid_request"})


def test_a_request_that_ended_early_is_not_carried_out(rpc: Rpc) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"user.create","params":{"name":"ada"}}'
    status, text = rpc.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(body) + 9) + body)
    assert (status, json.loads(text)["error"]["code"]) == (200, -32700)
    assert rpc.helper.calls == []


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("user.create", {"name": "../x"}, "name"),
        ("user.create", {"name": "a\n"}, "name"),
        ("user.create", {"name": 1}, "name"),
        ("user.create", {}, "name"),
        ("user.create", {"name": "a", "uid": 0}, "uid"),
        ("user.create", {"name": "a", "ssh_keys": "ssh-ed25519 AAAA"}, "ssh_keys"),
        ("user.create", {"name": "a", "ssh_keys": ["ssh-ed25519 AAAA"]}, "ssh_keys[0]"),
        ("user.create", {"name": "a", "ssh_keys": None}, "ssh_keys"),
        ("workspace.create", {"name": "a", "labels": {"a b": "c"}}, "labels"),
        ("workspace.create", {"name": "a", "labels": {"a": 1}}, "labels"),
        ("workspace.create", {"name": "a", "labels": {"a": "b\x9b31m"}}, "labels"),
        ("user.set_keys", {"name": "a", "ssh_keys": [KEY + " a\u2028b"]}, "ssh_keys"),
        ("workspace.delete", {"name": "a", "keep_user": 1}, "keep_user"),
        ("sandbox.create", {"workspace": "a", "limits": {"memory_bytes": 1000}}, "limits"),
        ("sandbox.create", {"workspace": "a", "limits": {"cpus": 0}}, "limits"),
        ("sandbox.create", {"workspace": "a", "limits": {"disk": 1}}, "limits"),
        ("sandbox.create", {"workspace": "a", "network": "some"}, "network"),
        ("workspace.exec", {"name": "a", "argv": []}, "argv"),
        ("workspace.exec", {"name": "a", "argv": ["a\0b"]}, "argv"),
        ("workspace.exec", {"name": "a", "argv": ["\ud800"]}, "argv"),
        ("workspace.exec", {"name": "a", "argv": ["cat"], "stdin": "\udfff"}, "stdin"),
        ("workspace.exec", {"name": "a", "argv": "ls"}, "argv"),
        ("workspace.exec", {"name": "a", "argv": ["ls"], "timeout_s": 0}, "timeout_s"),
        ("workspace.exec", {"name": "a", "argv": ["ls"], "timeout_s": True}, "timeout_s"),
        ("workspace.exec", {"name": "a", "argv": ["ls"], "env": {"A=B": "c"}}, "env"),
    ],
)
def test_bad_parameters_name_the_field_and_start_nothing(rpc: Rpc, method: str, params: Any, field: str) -> None:
    error = rpc.refuses(method, -32602, **params)
    assert field in [one["field"] for one in error["data"]["errors"]]
    assert rpc.helper.calls == []


def test_all_bad_fields_are_named_at_once(rpc: Rpc) -> None:
    error = rpc.refuses("user.create", -32602, name="..", request_id="", color="red")
    assert {one["field"] for one in error["data"]["errors"]} == {"name", "request_id", "color"}


def test_a_notification_changes_nothing(rpc: Rpc) -> None:
    assert rpc.answer({"jsonrpc": "2.0", "method": "user.create", "params": {"name": "ada"}}) is None
    assert rpc.helper.calls == []
    assert rpc.call("user.list") == []
    one = {"jsonrpc": "2.0", "method": "user.delete", "params": {"name": "bob"}}
    assert rpc.answer([one, {**one, "method": "node.version", "params": {}}, one]) is None
    assert [(record["method"], record["target"], record["outcome"]) for record in rpc.audited()] == [
        ("user.create", {"name": "ada"}, "invalid_request"),
        ("user.delete", {"name": "bob"}, "invalid_request"),
        ("user.delete", {"name": "bob"}, "invalid_request"),
    ]


def test_a_bug_stays_in_the_log(rpc: Rpc, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rpc.store, "list_users", lambda: 1 / 0)
    error = rpc.refuses("user.list", -32603)
    assert "ZeroDivision" not in json.dumps(error)
    assert error["data"]["reference"] in capfd.readouterr().err


def test_idle_connections_make_room_for_new_ones(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [rpc.connect() for _ in range(http_server.CONNECTIONS_MAX + 40)]
    try:
        assert rpc.call("node.version")
    finally:
        for connection in idle:
            connection.close()


def test_only_root_and_clients_may_call() -> None:
    assert http_server.may_call(0)
    assert not http_server.may_call(65534)
    assert not http_server.may_call(4_000_000_000)


def test_every_method_has_an_example() -> None:
    assert {entry.name for entry in METHODS} == set(examples.read())
