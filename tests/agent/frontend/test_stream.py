"""Door one over the real socket: one token, one stream, and the connection itself goes to the runtime."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import stream
from agent.frontend.stream import Tokens
from agent.shared.errors import InUse, LimitReached
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.stand_in_runtime import HOST_KEY, StandInRuntime
from tests.agent.frontend.stream_client import BANNER, KEY, answer_of, exactly, head_of, open_stream


@pytest.fixture
def demo(rpc: Rpc, runtime: StandInRuntime) -> Rpc:
    rpc.call("workspace.create", name="demo")
    return rpc


def dial(rpc: Rpc, **params: Any) -> Any:
    return rpc.call("workspace.dial", **{"name": "demo", "public_key": KEY, **params})


def test_a_token_turns_a_connection_into_a_stream(demo: Rpc, runtime: StandInRuntime) -> None:
    dialled = dial(demo, public_key=f"{KEY} a comment")
    assert (dialled["user"], dialled["host_keys"]) == ("cs-demo", [HOST_KEY])
    assert dialled["expires_at"] > demo.call("node.info")["now"]
    connection, status = open_stream(demo, dialled["token"])
    with connection:
        assert status == 101
        assert exactly(connection, len(BANNER)) == BANNER
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        assert exactly(connection, 300_000) == b"x" * 300_000
        assert connection.recv(1) == b""
    assert [request["request"] for request in runtime.requests] == ["ssh_host_keys", "start", "ssh"]
    assert runtime.requests[-1]["public_key"] == KEY


def test_dial_and_stream_may_share_one_connection(demo: Rpc, runtime: StandInRuntime) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "workspace.dial", "params": {"name": "demo", "public_key": KEY}}
    body = json.dumps(request).encode()
    with demo.connect() as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        data = b""
        while b'"token":"' not in data or not data.endswith(b"}"):
            data += connection.recv(65536)
        token = json.loads(data.partition(b"\r\n\r\n")[2])["result"]["token"]
        connection.sendall(head_of(token))
        assert answer_of(connection) == 101
        assert exactly(connection, len(BANNER)) == BANNER


def test_a_token_works_once(demo: Rpc, runtime: StandInRuntime) -> None:
    token = dial(demo)["token"]
    first, status = open_stream(demo, token)
    with first:
        assert status == 101
        second, status = open_stream(demo, token)
        second.close()
        assert status == 401


def test_a_wrong_token_opens_nothing(demo: Rpc, runtime: StandInRuntime) -> None:
    token = dial(demo)["token"]
    connection, status = open_stream(demo, token[:-1] + ("0" if token[-1] != "0" else "1"))
    connection.close()
    assert status == 401
    assert runtime.streams == []


def test_a_token_expires(demo: Rpc, runtime: StandInRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TOKEN_S", 0.2)
    token = dial(demo)["token"]
    time.sleep(0.25)
    connection, status = open_stream(demo, token)
    connection.close()
    assert status == 401
    assert runtime.streams == []


def test_the_token_of_a_peer_serves_no_other_one() -> None:
    tokens = Tokens()
    token, _ = tokens.give({"id": "1", "name": "demo", "user": "demo"}, "ssh", {}, 1000)
    assert tokens.take(token, 1001) is None
    assert tokens.take(token, 1000) is not None


def test_tokens_that_nobody_uses_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TOKENS_MAX", 2)
    tokens, document = Tokens(), {"id": "1", "name": "demo", "user": "demo"}
    monkeypatch.setattr(stream, "TOKEN_S", 0.1)
    tokens.give(document, "ssh", {}, 0)
    tokens.give(document, "ssh", {}, 0)
    with pytest.raises(LimitReached):
        tokens.give(document, "ssh", {}, 0)
    time.sleep(0.12)
    tokens.give(document, "ssh", {}, 0)


@pytest.mark.parametrize("change", ["deleted", "made anew", "of another user"])
def test_a_token_is_void_when_the_workspace_changes_hands(demo: Rpc, runtime: StandInRuntime, change: str) -> None:
    token = dial(demo)["token"]
    if change == "of another user":
        demo.store.change_workspace("demo", {"user": "ada"})
    else:
        demo.call("workspace.delete", name="demo")
    if change == "made anew":
        demo.helper.identity = "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0002"
        demo.call("workspace.create", name="demo")
    connection, status = open_stream(demo, token)
    connection.close()
    assert status == 401
    assert runtime.streams == []


def test_a_byte_before_the_answer_is_refused_and_spends_no_token(demo: Rpc, runtime: StandInRuntime) -> None:
    token = dial(demo)["token"]
    with demo.connect() as connection:
        connection.sendall(head_of(token) + b"SSH-2.0-Hasty\r\n")
        assert answer_of(connection) == 400
    assert runtime.streams == []
    connection, status = open_stream(demo, token)
    connection.close()
    assert status == 101


def test_a_malformed_request_for_a_stream_is_refused(demo: Rpc, runtime: StandInRuntime) -> None:
    token = dial(demo)["token"]
    for words in ({"upgrade": "h2c"}, {"upgrade": "ssh-agent"}, {"connection": "keep-alive"}):
        connection, status = open_stream(demo, token, **words)
        connection.close()
        assert status == 400, words
    for more in ("Content-Length: 2", "Transfer-Encoding: chunked", f"CodeSmith-Token: {token}", "Upgrade: h2c"):
        connection, status = open_stream(demo, token, more)
        connection.close()
        assert status == 400, more
    for wrong in ("", "x", token.upper() if token != token.upper() else "X", token + "0"):
        connection, status = open_stream(demo, wrong)
        connection.close()
        assert status == 400, wrong
    assert runtime.streams == []


def test_a_stream_has_no_time_limits(demo: Rpc, runtime: StandInRuntime) -> None:
    connection, _ = open_stream(demo, dial(demo)["token"])
    with connection:
        exactly(connection, len(BANNER))
        (there,) = runtime.streams
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            assert there.getsockopt(socket.SOL_SOCKET, option, 16) == struct.pack("@ll", 0, 0)


def test_a_stream_outlives_the_front_end(tmp_path: Path) -> None:
    serving = serve(tmp_path)
    rpc = next(serving)
    runtime = StandInRuntime(tmp_path / "demo.sock")
    rpc.call("workspace.create", name="demo")
    connection, _ = open_stream(rpc, dial(rpc)["token"])
    with connection:
        exactly(connection, len(BANNER))
        assert next(serving, None) is None
        connection.sendall(b"still there")
        assert exactly(connection, 11) == b"still there"
    runtime.close()


def test_a_stream_takes_no_connection_of_the_front_end(
    demo: Rpc, runtime: StandInRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [open_stream(demo, dial(demo)["token"])[0] for _ in range(5)]
    deadline = time.monotonic() + demo.patience_s
    while demo.connections.count > 1:
        assert time.monotonic() < deadline, demo.connections.count
        time.sleep(0.01)
    for connection in opened:
        connection.sendall(b"y")
        assert exactly(connection, len(BANNER) + 1) == BANNER + b"y"
        connection.close()


def test_a_runtime_that_refuses_is_an_answer_and_no_stream(demo: Rpc, runtime: StandInRuntime) -> None:
    token = dial(demo)["token"]
    runtime.answers["start"] = {"error": InUse("a clone runs").to_dict()}
    connection, status = open_stream(demo, token)
    with connection:
        assert status == 503
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
        assert answer["error"]["data"]["kind"] == "in_use"
    assert runtime.streams == []


def test_each_dial_is_audited_without_its_secrets(demo: Rpc, runtime: StandInRuntime, tmp_path: Path) -> None:
    token = dial(demo)["token"]
    demo.refuses("workspace.dial", -32602, name="demo", public_key="no key")
    demo.refuses("workspace.dial", 1001, name="nothing", public_key=KEY)
    records = [record for record in demo.audited() if record["method"] == "workspace.dial"]
    assert [record["outcome"] for record in records] == ["ok", "invalid_params", "not_found"]
    assert records[0]["target"] == {"name": "demo"}
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_key_with_options_is_refused(demo: Rpc, runtime: StandInRuntime) -> None:
    for key in (f'command="id" {KEY}', f"{KEY}\nssh-ed25519 AAAA", "ssh-ed25519 AAAA"):
        demo.refuses("workspace.dial", -32602, name="demo", public_key=key)
    assert runtime.requests == []


def test_a_workspace_of_a_disabled_user_is_not_dialled(demo: Rpc, runtime: StandInRuntime) -> None:
    document = demo.store.get_user("demo")
    assert document
    document.pop("workspaces")
    demo.store.put_user({**document, "state": "disabled"})
    demo.refuses("workspace.dial", 1005, name="demo", public_key=KEY)
    assert runtime.requests == []


@pytest.mark.parametrize(
    "said", [{}, {"host_keys": None}, {"host_keys": [7]}, {"host_keys": ["ssh-ed25519 AAAA\nevil * key"]}]
)
def test_what_a_runtime_says_is_checked(demo: Rpc, runtime: StandInRuntime, said: dict[str, Any]) -> None:
    runtime.answers["ssh_host_keys"] = {"result": said}
    demo.refuses("workspace.dial", 1007, name="demo", public_key=KEY)
