"""The socket of tokens, over real sockets: what a token reaches, and everything an attacker tries beside it."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import scoped, token_streams, tokens
from agent.methods import METHODS
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.stand_in_runtime import StandInRuntime
from tests.agent.frontend.test_stream import BANNER, KEY, answer_of, exactly, head_of
from tests.waiting import eventually

EXAMPLES = {entry["name"]: entry["examples"][0] for entry in json.loads(
    (Path(__file__).parents[3] / "agent" / "openrpc.json").read_text())["methods"]}  # fmt: skip
WORK = [entry.name for entry in METHODS if entry.scope in ("read", "work")]
OPERATOR = [entry.name for entry in METHODS if entry.scope == "operator"]


class Holder:
    """Somebody who has a secret, and talks to scoped.sock."""

    def __init__(self, rpc: Rpc, secret: str, token: str) -> None:
        self.rpc, self.secret, self.id = rpc, secret, token

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.rpc.patience_s)
        connection.connect(str(self.rpc.path.parent / "scoped.sock"))
        return connection

    def post(self, request: Any, *headers: str, path: str = "/") -> tuple[int, Any]:
        body = json.dumps(request).encode()
        shown = headers or (f"Authorization: Bearer {self.secret}",)
        lines = [f"POST {path} HTTP/1.1", "Host: n", f"Content-Length: {len(body)}", "Connection: close", *shown]
        with self.connect() as connection:
            connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        self.head = head.decode()
        return int(head.split()[1]), json.loads(body) if body else None

    def asks(self, method: str, **params: Any) -> Any:
        status, answer = self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert status == 200, answer
        return answer

    def gets(self, method: str, **params: Any) -> Any:
        answer = self.asks(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def is_refused(self, method: str, **params: Any) -> str:
        return str(self.asks(method, **params)["error"]["data"]["kind"])


def make(rpc: Rpc, workspace: str = "demo", **more: Any) -> Holder:
    secret = secrets.token_hex(32)
    made = rpc.call("token.create", workspace=workspace, token_sha256=sha256(secret), **more)
    return Holder(rpc, secret, made["id"])


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoped, "WRONG_S", 0.01)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[StandInRuntime]:
    there = StandInRuntime(tmp_path / "demo.sock")
    yield there
    there.close()


@pytest.fixture
def demo(rpc: Rpc, runtime: StandInRuntime) -> Rpc:
    rpc.call("workspace.create", name="demo")
    rpc.call("workspace.create", name="other")
    return rpc


def test_every_method_is_classified() -> None:
    assert {entry.scope for entry in METHODS} == {"read", "work", "operator"}
    for entry in METHODS:
        if entry.scope != "operator" and entry.name != "rpc.discover":
            assert entry.workspace_parameter, f"{entry.name}: whose workspace is it?"


@pytest.mark.parametrize("name", OPERATOR)
def test_what_is_the_operators_is_out_of_scope(demo: Rpc, name: str) -> None:
    holder = make(demo)
    params = {one["name"]: one["value"] for one in EXAMPLES[name]["params"]}
    assert holder.is_refused(name, **params) == "out_of_scope"
    assert holder.is_refused(name) == "out_of_scope"
    assert demo.refuses("token.create", -32602, workspace="demo", token_sha256=sha256("x"), methods=[name])


@pytest.mark.parametrize("name", [name for name in WORK if name != "rpc.discover"])
def test_another_workspace_is_out_of_scope(demo: Rpc, name: str) -> None:
    holder = make(demo)
    params = {one["name"]: one["value"] for one in EXAMPLES[name]["params"]}
    key = next(entry.workspace_parameter for entry in METHODS if entry.name == name)
    assert holder.is_refused(name, **{**params, key: "other"}) == "out_of_scope"
    assert holder.is_refused(name, **{**params, key: "nothing"}) == "out_of_scope"
    assert holder.is_refused(name, **{**params, key: ["demo"]}) == "out_of_scope"
    assert holder.is_refused(name, **{key_: value for key_, value in params.items() if key_ != key}) == "invalid_params"
    assert not any(call[1].get("workspace") == "other" for call in demo.helper.calls if call[0].startswith("runtime"))


def test_a_repeated_request_id_reaches_the_helper_no_second_time(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    holder, site = make(rpc), {"workspace": "demo", "name": "site"}
    holder.gets("repo.init", **site)
    first = holder.gets("repo.delete", **site, request_id="r1")
    assert holder.gets("repo.delete", **site, request_id="r1") == first
    assert [verb for verb, _ in rpc.helper.calls].count("repo.remove") == 1
    assert holder.is_refused("repo.delete", workspace="demo", name="other", request_id="r1") == "invalid_params"


def test_a_read_token_only_looks(demo: Rpc) -> None:
    holder = make(demo, preset="read")
    assert holder.gets("workspace.get", name="demo")["name"] == "demo"
    assert holder.is_refused("workspace.exec", name="demo", argv=["true"]) == "out_of_scope"
    assert holder.is_refused("file.write", workspace="demo", path="x", data="") == "out_of_scope"
    listed = {one["name"] for one in holder.gets("rpc.discover")["methods"]}
    assert listed == {entry.name for entry in METHODS if entry.scope == "read"}


def test_single_methods(demo: Rpc) -> None:
    holder = make(demo, methods=["workspace.get", "repo.list"])
    assert holder.gets("repo.list", workspace="demo") == []
    assert holder.is_refused("workspace.usage", name="demo") == "out_of_scope"
    (listed,) = demo.call("token.list", workspace="demo")
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
def test_without_one_valid_token_nothing_is_done(demo: Rpc, headers: list[str]) -> None:
    holder = make(demo)
    words = {
        "secret": holder.secret, "wrong": secrets.token_hex(32), "sha256": sha256(holder.secret), "long": "a" * 9000,
        "upper": holder.secret.upper(), "short": holder.secret[:-1],
    }  # fmt: skip
    calls = len(demo.helper.calls)
    shown = [one.format(**words) for one in headers]
    status, answer = holder.post(
        {"jsonrpc": "2.0", "id": 1, "method": "workspace.stop", "params": {"name": "demo"}}, *shown
    )
    assert (status, answer["error"]["data"]["kind"]) == (401, "invalid_request")
    assert "WWW-Authenticate: Bearer" in holder.head
    assert len(demo.helper.calls) == calls
    assert "workspace.stop" not in demo.audit.read_text()


def test_a_folded_header_is_refused(demo: Rpc) -> None:
    holder = make(demo)
    status, _ = holder.post({}, "Authorization:", f" Bearer {holder.secret}")
    assert status == 400


def test_a_token_in_the_address_is_none(demo: Rpc) -> None:
    holder = make(demo)
    for path in (f"/?token={holder.secret}", f"/{holder.secret}", f"/?Authorization=Bearer%20{holder.secret}"):
        status, _ = holder.post({}, "X: y", path=path)
        assert status == 401


def test_every_request_of_a_connection_shows_its_token(demo: Rpc) -> None:
    holder = make(demo)
    body = b'{"jsonrpc":"2.0","id":1,"method":"repo.list","params":{"workspace":"demo"}}'
    head = f"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n"
    with holder.connect() as connection:
        connection.sendall(f"{head}Authorization: Bearer {holder.secret}\r\n\r\n".encode() + body)
        assert answer_of(connection) == 200
        connection.sendall(f"{head}\r\n".encode() + body)
        data = b""
        while b"401" not in data:
            data += connection.recv(65536) or pytest.fail(str(data))


def test_a_batch_is_judged_call_by_call(demo: Rpc) -> None:
    holder = make(demo)
    calls = [("workspace.get", {"name": "demo"}), ("workspace.get", {"name": "other"}), ("user.list", {}), ("no", {})]
    batch = [{"jsonrpc": "2.0", "id": n, "method": m, "params": p} for n, (m, p) in enumerate(calls)]
    _, answers = holder.post(batch)
    assert [one.get("error", {}).get("code", 0) for one in answers] == [0, 1010, 1010, -32601]


def test_what_is_out_of_scope_is_audited_once_a_minute(demo: Rpc) -> None:
    holder = make(demo, label="ci")
    for _ in range(5):
        holder.is_refused("user.list")
    records = [one for one in demo.call("audit.list") if one["outcome"] == "out_of_scope"]
    assert len(records) == 1
    assert (records[0]["method"], records[0]["token"]) == ("user.list", {"id": holder.id, "label": "ci"})


def test_a_change_says_whose_it_is_and_no_secret_is_anywhere(demo: Rpc, capfd: pytest.CaptureFixture[str]) -> None:
    holder = make(demo, label="ci")
    holder.gets("workspace.start", name="demo")
    mine = next(one for one in demo.call("audit.list") if one["method"] == "workspace.start")
    assert mine["token"] == {"id": holder.id, "label": "ci"}
    texts = demo.audit.read_text() + "".join(capfd.readouterr())
    places = [texts.encode(), *(path.read_bytes() for path in demo.path.parent.glob("state.db*"))]
    assert not any(holder.secret.encode() in place for place in places)


def test_the_results_of_others_are_not_read_by_their_request_id(demo: Rpc) -> None:
    first, second = make(demo), make(demo)
    demo.call("workspace.start", name="demo", request_id="r1")
    first.gets("workspace.start", name="demo", request_id="r1")
    second.gets("workspace.start", name="demo", request_id="r1")
    first.gets("workspace.start", name="demo", request_id="r1")
    assert first.is_refused("workspace.stop", name="demo", request_id="r1") == "invalid_params"
    begun = [one for one in demo.call("audit.list") if one["method"] == "workspace.start"]
    assert len(begun) == 4


@pytest.mark.slow
def test_a_token_ends_with_its_time(demo: Rpc) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    holder = make(demo, expires_at=soon)
    holder.gets("workspace.get", name="demo")
    assert eventually(lambda: holder.post({})[0] == 401)
    assert demo.call("token.list")[0]["expires_at"] is not None
    for past in ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00", "tomorrow"):
        demo.refuses("token.create", -32602, workspace="demo", token_sha256=sha256("y"), expires_at=past)


def test_revoke(demo: Rpc) -> None:
    holder = make(demo)
    demo.call("token.revoke", id=holder.id)
    assert holder.post({})[0] == 401
    assert demo.call("token.list") == []
    demo.refuses("token.revoke", 1001, id=holder.id)


def test_a_revoked_token_is_found_by_its_workspace(demo: Rpc) -> None:
    holder = make(demo)
    demo.call("token.revoke", id=holder.id)
    demo.refuses("token.revoke", 1001, id=holder.id)
    records = [one for one in demo.call("audit.list", workspace="demo") if one["method"] == "token.revoke"]
    assert [(one["target"], one["owner"], one["outcome"]) for one in records] == [
        ({"id": holder.id, "workspace": "demo"}, "demo", "ok")
    ]  # fmt: skip
    assert [one["method"] for one in demo.call("audit.list", user="demo")].count("token.revoke") == 1
    assert len([one for one in demo.call("audit.list") if one["method"] == "token.revoke"]) == 2


def test_a_token_is_of_one_workspace_and_its_owner(demo: Rpc) -> None:
    assigned, deleted = make(demo), make(demo, "other")
    demo.call("user.create", name="ada")
    demo.call("workspace.assign", name="demo", user="ada")
    assert assigned.post({})[0] == 401
    demo.call("workspace.delete", name="other")
    demo.call("workspace.create", name="other")
    assert deleted.post({})[0] == 401
    assert demo.call("token.list") == []


def test_tokens_outlive_the_front_end(tmp_path: Path) -> None:
    for rpc in serve(tmp_path):
        rpc.call("workspace.create", name="demo")
        holder = make(rpc)
    for rpc in serve(tmp_path):
        holder.rpc = rpc
        assert holder.gets("workspace.get", name="demo")["name"] == "demo"


def test_the_last_use_is_written_once_a_minute(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, written = make(demo), []
    original = demo.store.touch_token
    monkeypatch.setattr(demo.store, "touch_token", lambda *one: (written.append(one), original(*one)))
    assert demo.call("token.list")[0]["last_used_at"] is None
    for _ in range(5):
        holder.gets("workspace.get", name="demo")
    assert len(written) <= 2
    assert demo.call("token.list")[0]["last_used_at"] is not None


def test_there_are_so_many_tokens(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "OF_WORKSPACE_MAX", 2)
    make(demo)
    make(demo)
    demo.refuses("token.create", 1008, workspace="demo", token_sha256=sha256("z"))
    make(demo, "other")


def test_wrong_secrets_wait(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(scoped.time, "sleep", waited.append)
    holder = make(demo)
    holder.post({}, f"Authorization: Bearer {secrets.token_hex(32)}")
    assert waited == [scoped.WRONG_S]
    holder.gets("workspace.get", name="demo")
    assert waited == [scoped.WRONG_S]


# Streams


def dial(holder: Holder) -> tuple[socket.socket, int]:
    token = holder.gets("workspace.dial", name="demo", public_key=KEY)["token"]
    return open_stream(holder, token)


def open_stream(holder: Holder, token: str) -> tuple[socket.socket, int]:
    connection = holder.connect()
    connection.sendall(head_of(token, f"Authorization: Bearer {holder.secret}"))
    return connection, answer_of(connection)


def test_a_stream_carries_bytes_both_ways(demo: Rpc, runtime: StandInRuntime) -> None:
    connection, status = dial(make(demo))
    data = secrets.token_bytes(3_000_000)
    with connection:
        assert status == 101
        assert exactly(connection, len(BANNER)) == BANNER
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        assert exactly(connection, len(data)) == data
        assert connection.recv(1) == b""
        sender.join()


def test_a_revoked_token_ends_its_streams_alone(demo: Rpc, runtime: StandInRuntime) -> None:
    first, second = make(demo), make(demo)
    (one, _), (other, _) = dial(first), dial(second)
    with one, other:
        exactly(one, len(BANNER))
        exactly(other, len(BANNER))
        demo.call("token.revoke", id=first.id)
        assert one.recv(1) == b""
        other.sendall(b"still here")
        assert exactly(other, 10) == b"still here"
    assert eventually(lambda: not runtime.streams[0].fileno() >= 0)


@pytest.mark.slow
def test_a_stream_ends_when_its_token_expires(demo: Rpc, runtime: StandInRuntime, monkeypatch: Any) -> None:
    monkeypatch.setattr(token_streams, "LOOK_S", 0.05)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    connection, status = dial(make(demo, expires_at=soon))
    with connection:
        assert status == 101
        exactly(connection, len(BANNER))
        assert connection.recv(1) == b""


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_nobody(demo: Rpc, runtime: StandInRuntime) -> None:
    lazy, busy = make(demo), make(demo)
    (idle, _), (other, _) = dial(lazy), dial(busy)
    with idle, other:
        idle.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # until every buffer on the way is full
            try:
                sent += idle.send(b"x" * 65536)
                deadline = time.monotonic() + 0.3
            except BlockingIOError:
                time.sleep(0.02)
        assert sent < 16 << 20
        exactly(other, len(BANNER))
        other.sendall(b"hello")
        assert exactly(other, 5) == b"hello"


def test_a_streams_token_is_of_who_got_it(demo: Rpc, runtime: StandInRuntime) -> None:
    first, second = make(demo), make(demo)
    theirs = first.gets("workspace.dial", name="demo", public_key=KEY)["token"]
    operators = demo.call("workspace.dial", name="demo", public_key=KEY)["token"]
    for token in (theirs, operators):
        connection, status = open_stream(second, token)
        connection.close()
        assert status == 401
    with demo.connect() as connection:
        connection.sendall(head_of(theirs))
        assert answer_of(connection) == 401
    connection, status = open_stream(first, theirs)
    connection.close()
    assert status == 101


def test_there_are_so_many_streams(demo: Rpc, runtime: StandInRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_streams, "STREAMS_MAX", 1)
    holder = make(demo)
    first, status = dial(holder)
    second, refused = dial(holder)
    with first, second:
        assert (status, refused) == (101, 503)


def test_no_ssh_agent_is_lent_here(demo: Rpc) -> None:
    holder = make(demo)
    status, _ = holder.post({}, f"Authorization: Bearer {holder.secret}", "Upgrade: ssh-agent", path="/ssh-agent")
    assert status == 403


def test_the_operators_socket_takes_no_token(demo: Rpc) -> None:
    """A token does not lower what the operators' socket gives: it is not looked at there."""
    holder = make(demo, preset="read")
    status, body = demo.post(b'{"jsonrpc":"2.0","id":1,"method":"user.list"}', f"Authorization: Bearer {holder.secret}")
    assert (status, "error" in json.loads(body)) == (200, False)
