"""A stream over a node's port: the port's token, the stream's own token, then bytes both ways."""

from __future__ import annotations

import json
import socket

import pytest

from codesmith.http import session
from tests.http.test_http_port import dial, endpoint, node, number, token
from tests.tunnel.tunnel_talk import read_all
from tests.waiting import eventually

__all__ = ["dial", "endpoint", "node", "number", "token"]
STREAM_TOKEN = "0123456789abcdef" * 4
UPGRADE = "Connection: Upgrade\r\nUpgrade: codesmith-stream\r\n"


@pytest.fixture
def ask(dial, number, token):
    """Send the head of a request for a stream, by default a good one; return the connection and the status."""

    def send(
        headers: str = UPGRADE, *, stream_token: str = STREAM_TOKEN, authorization: str | None = None,
        more: bytes = b"", method: str = "POST",
    ) -> tuple[socket.socket, int]:  # fmt: skip
        sock = dial()
        bearer = f"Bearer {token}" if authorization is None else authorization
        head = f"{method} /stream HTTP/1.1\r\nHost: 127.0.0.1:{number}\r\nAuthorization: {bearer}\r\n"
        sock.sendall(f"{head}{headers}CodeSmith-Token: {stream_token}\r\n\r\n".encode() + more)
        return sock, int(read_head(sock).split()[1])

    return send


def read_head(sock: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += sock.recv(1) or pytest.fail(f"ended after {data!r}")
    return data.decode()


def read_line(sock: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n"):
        data += sock.recv(1) or pytest.fail(f"ended after {data!r}")
    return data.decode()


def test_a_stream_carries_bytes_both_ways_and_both_ends(ask):
    sock, status = ask()
    assert status == 101
    read_line(sock)
    sock.sendall(b"x" * 500_000)
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"x" * 500_000 + b"END"


def test_the_token_of_the_port_does_not_reach_the_node(ask, token):
    sock, _ = ask()
    seen = read_line(sock)
    assert f"codesmith-token: {STREAM_TOKEN}" in seen
    assert "authorization" not in seen and token not in seen


def test_a_stream_needs_both_tokens(ask):
    assert ask(authorization="Bearer nonsense")[1] == 401
    assert ask(stream_token="x")[1] == 400
    sock, status = ask(stream_token="0" * 64)
    assert status == 401
    assert json.loads(read_all(sock)) == {"error": {"message": "the token is used"}}


def test_what_is_no_request_for_a_stream_is_refused(ask):
    assert ask("Connection: Upgrade\r\nUpgrade: h2c\r\n")[1] == 400
    assert ask(UPGRADE + "Content-Length: 1\r\n")[1] == 400
    assert ask(UPGRADE + "Transfer-Encoding: chunked\r\n")[1] == 400
    assert ask(method="GET")[1] == 400
    assert ask(UPGRADE + "Origin: http://evil.example\r\n")[1] == 403


def test_a_byte_before_the_answer_is_refused(ask):
    assert ask(more=b"SSH-2.0-Hasty\r\n")[1] == 400


def test_a_stream_ends_with_the_endpoint(ask, endpoint):
    sock, _ = ask()
    read_line(sock)
    endpoint.stop()
    assert read_all(sock) == b""


def test_a_client_that_leaves_ends_its_stream(ask, endpoint):
    sock, _ = ask()
    read_line(sock)
    assert endpoint.view().counts["open"] >= 1
    sock.close()
    eventually(lambda: endpoint.view().counts["open"] == 0)


@pytest.mark.slow
def test_a_stream_may_be_silent_for_long(ask, monkeypatch):
    monkeypatch.setattr(session, "IDLE_S", 0.1)
    monkeypatch.setattr(session, "UNAUTHENTICATED_S", 0.1)
    sock, _ = ask()
    read_line(sock)
    sock.settimeout(0.6)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(10)
    sock.sendall(b"still there")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"still thereEND"
