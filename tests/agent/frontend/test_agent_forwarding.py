"""Agent forwarding over the real socket: one connection, one token, one call of the same peer."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from agent.frontend import agent_forwarding, http_server
from agent.frontend.agent_forwarding import WAITING_MAX, ForwardedAgents, caller_uid
from agent.shared.errors import InvalidParams
from tests.agent.conftest import Rpc

TOKEN = "0a" * 32
CLONE = {"workspace": "demo", "url": "git@h:site.git", "credential": {"agent": TOKEN}}


def lend(rpc: Rpc, token: str = TOKEN, protocol: str = "ssh-agent") -> tuple[socket.socket, int]:
    """Open a connection and offer it as a forwarded agent; return it with the HTTP status."""
    connection = rpc.connect()
    head = f"POST /ssh-agent HTTP/1.1\r\nHost: n\r\nUpgrade: {protocol}\r\nCodeSmith-Token: {token}\r\n"
    connection.sendall(f"{head}Connection: Upgrade\r\nContent-Length: 0\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    return connection, int(data.split()[1])


def test_a_forwarded_agent_serves_one_call_and_ends_with_it(rpc: Rpc, tmp_path: Path) -> None:
    rpc.call("workspace.create", name="demo")
    connection, status = lend(rpc)
    with connection:
        assert status == 101
        assert rpc.call("repo.clone", **CLONE)["name"] == "site"
        assert connection.recv(1) == b""
    assert rpc.helper.calls[-1][1]["credential"] == {"agent": TOKEN}
    rpc.refuses("repo.clone", -32602, **{**CLONE, "name": "again"})
    assert rpc.audited()[-2]["target"] == {"workspace": "demo", "credential": "agent"}
    assert TOKEN.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_workspace_may_begin_with_it(rpc: Rpc) -> None:
    connection, _ = lend(rpc)
    repo = {key: value for key, value in CLONE.items() if key != "workspace"}
    with connection:
        assert rpc.call("workspace.create", name="demo", repo=repo)["repos"] == ["site"]
        assert connection.recv(1) == b""
    assert rpc.audited()[-1]["target"]["credential"] == "agent"
    rpc.refuses("workspace.create", -32602, name="other", repo=repo)
    assert [verb for verb, _ in rpc.helper.calls] == ["workspace.ensure", "repo.clone"]


def test_a_malformed_offer_is_refused(rpc: Rpc) -> None:
    for token, protocol in (("x", "ssh-agent"), (TOKEN[1:], "ssh-agent"), (TOKEN.upper(), "ssh-agent"), (TOKEN, "h2c")):
        connection, status = lend(rpc, token, protocol)
        connection.close()
        assert status == 400
    first, _ = lend(rpc)
    second, status = lend(rpc)
    assert status == 409
    second.close()
    first.close()


def test_an_agent_that_no_call_claims_is_closed(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_forwarding, "UNCLAIMED_S", 0.1)
    rpc.call("workspace.create", name="demo")
    connection, status = lend(rpc)
    with connection:
        assert status == 101
        assert connection.recv(1) == b""
    rpc.refuses("repo.clone", -32602, **CLONE)


def test_an_agent_whose_owner_left_serves_no_call(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    connection, _ = lend(rpc)
    forwarded_agents = rpc.dispatcher.forwarded_agents
    connection.close()
    deadline = time.monotonic() + 20
    while forwarded_agents.waiting:
        assert time.monotonic() < deadline
    rpc.refuses("repo.clone", -32602, **CLONE)
    assert [verb for verb, _ in rpc.helper.calls] == ["workspace.ensure"]


def test_an_agent_whose_owner_left_before_the_answer_takes_no_place(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    def switch_to(handler: http_server.RequestHandler, protocol: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(http_server.RequestHandler, "switch_to", switch_to)
    with rpc.connect() as connection:
        head = f"POST /ssh-agent HTTP/1.1\r\nHost: n\r\nUpgrade: ssh-agent\r\nCodeSmith-Token: {TOKEN}\r\n\r\n"
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert rpc.dispatcher.forwarded_agents.waiting == {}


@pytest.mark.parametrize("credential", [{"agent": "x"}, {"agent": TOKEN, "ssh_key": "x"}, {"agent": TOKEN.upper()}])
def test_a_token_is_64_hexadecimal_digits(rpc: Rpc, credential: dict[str, str]) -> None:
    rpc.call("workspace.create", name="demo")
    rpc.refuses("repo.clone", -32602, **{**CLONE, "credential": credential})
    rpc.refuses("repo.clone", -32602, workspace="demo", url="https://h/x", credential={"agent": TOKEN})


def test_an_agent_that_another_uid_forwarded_is_refused() -> None:
    forwarded_agents = ForwardedAgents()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert forwarded_agents.offer(TOKEN, 1000, ours)
        for uid in (None, 0, 1001):
            caller_uid.set(uid)
            with pytest.raises(InvalidParams, match="credential"), forwarded_agents.claim(TOKEN):
                pass
        caller_uid.set(1000)
        with forwarded_agents.claim(TOKEN) as descriptor:
            assert descriptor == ours.fileno()
        caller_uid.set(None)
        tokens = [f"{number:064x}" for number in range(WAITING_MAX + 1)]
        assert [forwarded_agents.offer(token, 1000, ours) is None for token in tokens] == [False] * WAITING_MAX + [True]
