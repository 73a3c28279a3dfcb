"""The socket of tokens, over real sockets: what a token reaches, and everything an attacker tries beside it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from agent.methods import METHODS
from tests.agent.conftest import Rpc
from tests.agent.frontend.stream_client import answer_of
from tests.agent.frontend.token_holder import make, sha256

EXAMPLES = {entry["name"]: entry["examples"][0] for entry in json.loads(
    (Path(__file__).parents[3] / "agent" / "openrpc.json").read_text())["methods"]}  # fmt: skip
WORK = [entry.name for entry in METHODS if entry.scope in ("read", "work")]
OPERATOR = [entry.name for entry in METHODS if entry.scope == "operator"]


def test_every_method_is_classified() -> None:
    assert {entry.scope for entry in METHODS} == {"read", "work", "operator"}
    for entry in METHODS:
        if entry.scope != "operator" and entry.name != "rpc.discover":
            assert entry.workspace_parameter, f"{entry.name}: whose workspace is it?"


@pytest.mark.parametrize("name", OPERATOR)
def test_what_is_the_operators_is_out_of_scope(front: Rpc, name: str) -> None:
    holder = make(front)
    params = {one["name"]: one["value"] for one in EXAMPLES[name]["params"]}
    assert holder.is_refused(name, **params) == "out_of_scope"
    assert holder.is_refused(name) == "out_of_scope"
    assert front.refuses("token.create", -32602, workspace="demo", token_sha256=sha256("x"), methods=[name])


@pytest.mark.parametrize("name", [name for name in WORK if name != "rpc.discover"])
def test_another_workspace_is_out_of_scope(front: Rpc, name: str) -> None:
    holder = make(front)
    params = {one["name"]: one["value"] for one in EXAMPLES[name]["params"]}
    key = next(entry.workspace_parameter for entry in METHODS if entry.name == name)
    assert holder.is_refused(name, **{**params, key: "other"}) == "out_of_scope"
    assert holder.is_refused(name, **{**params, key: "nothing"}) == "out_of_scope"
    assert holder.is_refused(name, **{**params, key: ["demo"]}) == "out_of_scope"
    assert holder.is_refused(name, **{key_: value for key_, value in params.items() if key_ != key}) == "invalid_params"
    assert not any(call[1].get("workspace") == "other" for call in front.helper.calls if call[0].startswith("runtime"))


def test_a_repeated_request_id_reaches_the_helper_no_second_time(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    holder, site = make(rpc), {"workspace": "demo", "name": "site"}
    holder.gets("repo.init", **site)
    first = holder.gets("repo.delete", **site, request_id="r1")
    assert holder.gets("repo.delete", **site, request_id="r1") == first
    assert [verb for verb, _ in rpc.helper.calls].count("repo.remove") == 1
    assert holder.is_refused("repo.delete", workspace="demo", name="other", request_id="r1") == "invalid_params"


def test_a_read_token_only_looks(front: Rpc) -> None:
    holder = make(front, preset="read")
    assert holder.gets("workspace.get", name="demo")["name"] == "demo"
    assert holder.is_refused("workspace.exec", name="demo", argv=["true"]) == "out_of_scope"
    assert holder.is_refused("file.write", workspace="demo", path="x", data="") == "out_of_scope"
    listed = {one["name"] for one in holder.gets("rpc.discover")["methods"]}
    assert listed == {entry.name for entry in METHODS if entry.scope == "read"}


def test_single_methods(front: Rpc) -> None:
    holder = make(front, methods=["workspace.get", "repo.list"])
    assert holder.gets("repo.list", workspace="demo") == []
    assert holder.is_refused("workspace.usage", name="demo") == "out_of_scope"
    (listed,) = front.call("token.list", workspace="demo")
    assert (listed["preset"], listed["methods"]) == (None, ["repo.list", "workspace.get"])


@pytest.mark.parametrize(
    "headers",
    [
        ["X: y"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer {wrong}"],
        ["Authorization: Bearer {sha256}"],
        ["Authorization: bearer {secret}"],
        ["Authorization: Basic {secret}"],
        ["Authorization: Bearer {upper}"],
        ["Authorization: Bearer {secret} "  "x"],
        ["Authorization: Bearer {secret}", "Authorization: Bearer {secret}"],
        ["Authorization: Bearer {wrong}", "Authorization: Bearer {secret}"],
        ["Authorization: Bearer {secret}, Bearer {wrong}"],
        ["Authorization: Bearer {secret}0"],
        ["Authorization: Bearer {short}"],
        ["Proxy-Authorization: Bearer {secret}"],
        ["CodeSmith-Token: {secret}"],
        ["Cookie: token={secret}"],
        ["Authorization: Bearer {long}"],
    ],
)  # fmt: skip
def test_without_one_valid_token_nothing_is_done(front: Rpc, headers: list[str]) -> None:
    holder = make(front)
    words = {
        "secret": holder.secret, "wrong": secrets.token_hex(32), "sha256": sha256(holder.secret), "long": "a" * 9000,
        "upper": holder.secret.upper(), "short": holder.secret[:-1],
    }  # fmt: skip
    calls = len(front.helper.calls)
    shown = [one.format(**words) for one in headers]
    status, answer = holder.post(
        {"jsonrpc": "2.0", "id": 1, "method": "workspace.stop", "params": {"name": "demo"}}, *shown
    )
    assert (status, answer["error"]["data"]["kind"]) == (401, "invalid_request")
    assert "WWW-Authenticate: Bearer" in holder.head
    assert len(front.helper.calls) == calls
    assert "workspace.stop" not in front.audit.read_text()


def test_a_folded_header_is_refused(front: Rpc) -> None:
    holder = make(front)
    status, _ = holder.post({}, "Authorization:", f" Bearer {holder.secret}")
    assert status == 400


def test_a_token_in_the_address_is_none(front: Rpc) -> None:
    holder = make(front)
    for path in (f"/?token={holder.secret}", f"/{holder.secret}", f"/?Authorization=Bearer%20{holder.secret}"):
        status, _ = holder.post({}, "X: y", path=path)
        assert status == 401


def test_every_request_of_a_connection_shows_its_token(front: Rpc) -> None:
    holder = make(front)
    body = b'{"jsonrpc":"2.0","id":1,"method":"repo.list","params":{"workspace":"demo"}}'
    head = f"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n"
    with holder.connect() as connection:
        connection.sendall(f"{head}Authorization: Bearer {holder.secret}\r\n\r\n".encode() + body)
        assert answer_of(connection) == 200
        connection.sendall(f"{head}\r\n".encode() + body)
        data = b""
        while b"401" not in data:
            data += connection.recv(65536) or pytest.fail(str(data))


def test_a_batch_is_judged_call_by_call(front: Rpc) -> None:
    holder = make(front)
    calls = [("workspace.get", {"name": "demo"}), ("workspace.get", {"name": "other"}), ("user.list", {}), ("no", {})]
    batch = [{"jsonrpc": "2.0", "id": n, "method": m, "params": p} for n, (m, p) in enumerate(calls)]
    _, answers = holder.post(batch)
    assert [one.get("error", {}).get("code", 0) for one in answers] == [0, 1010, 1010, -32601]


def test_the_results_of_others_are_not_read_by_their_request_id(front: Rpc) -> None:
    first, second = make(front), make(front)
    front.call("workspace.start", name="demo", request_id="r1")
    first.gets("workspace.start", name="demo", request_id="r1")
    second.gets("workspace.start", name="demo", request_id="r1")
    first.gets("workspace.start", name="demo", request_id="r1")
    assert first.is_refused("workspace.stop", name="demo", request_id="r1") == "invalid_params"
    begun = [one for one in front.call("audit.list") if one["method"] == "workspace.start"]
    assert len(begun) == 4


def test_no_ssh_agent_is_lent_here(front: Rpc) -> None:
    holder = make(front)
    status, _ = holder.post({}, f"Authorization: Bearer {holder.secret}", "Upgrade: ssh-agent", path="/ssh-agent")
    assert status == 403


def test_the_operators_socket_takes_no_token(front: Rpc) -> None:
    """A token does not lower what the operators' socket gives: it is not looked at there."""
    holder = make(front, preset="read")
    status, body = front.post(
        b'{"jsonrpc":"2.0","id":1,"method":"user.list"}', f"Authorization: Bearer {holder.secret}"
    )
    assert (status, "error" in json.loads(body)) == (200, False)
