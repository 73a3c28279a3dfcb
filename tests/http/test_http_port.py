"""An endpoint with a port: which requests it serves, which it refuses, and what strangers cannot do."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import time

import pytest

import agent.frontend.http_server
import codesmith
from codesmith.errors import CodeSmithError, Unreachable
from codesmith.http import request, session
from codesmith.tunnel import tcp_listener
from codesmith.tunnel.local_endpoint import endpoint_path, token_path
from tests.tunnel.tunnel_talk import read_all, version
from tests.waiting import eventually

CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "node.version"}'
JSON = "Content-Type: application/json\r\n"


@pytest.fixture
def number() -> int:
    """A free port."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def node(node, number):
    return dataclasses.replace(node, endpoint=f"tcp:{number}")


@pytest.fixture
def endpoint(keep, node):
    endpoint = keep(node)
    endpoint.ensure_ready(5)
    return endpoint


@pytest.fixture
def token(endpoint, node) -> str:
    return token_path(node).read_text().strip()


@pytest.fixture
def dial(endpoint, number):
    """Open connections to the port; all are closed at the end."""
    opened = []

    def open_one(to: str = "127.0.0.1") -> socket.socket:
        opened.append(socket.create_connection((to, number), timeout=10))
        return opened[-1]

    yield open_one
    for sock in opened:
        sock.close()


@pytest.fixture
def say(dial, number, token):
    """Send one raw request, by default a good one; return status and body of the answer."""

    def send(
        first: str = "POST / HTTP/1.1",
        headers: str = JSON,
        host: str | None = None,
        authorization: str | None = None,
        body: bytes = CALL,
        length: str | None = None,
    ) -> tuple[int, bytes]:
        head = f"{first}\r\nHost: {host or f'127.0.0.1:{number}'}\r\n"
        authorization = f"Bearer {token}" if authorization is None else authorization
        head += f"Authorization: {authorization}\r\n" if authorization else ""
        head += f"Content-Length: {len(body)}\r\n" if length is None else length
        return talk(dial(), f"{head}{headers}\r\n".encode("latin-1") + body)

    return send


def talk(sock: socket.socket, data: bytes) -> tuple[int, bytes]:
    sock.sendall(data)
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, response.read()


def good(number: int, token: str, body: bytes = CALL, extra: str = "") -> bytes:
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{number}\r\nAuthorization: Bearer {token}\r\n{JSON}{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_call_with_the_token_reaches_the_node(say):
    status, body = say()
    assert (status, json.loads(body)["result"]["node_id"]) == (200, "id-1")


def test_the_token_is_private_long_and_nowhere_else(endpoint, node, token, home):
    found = token_path(node).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert len(token) >= 43
    assert token not in repr(endpoint.view())
    others = [path for path in home.rglob("*") if path.is_file() and path != token_path(node)]
    assert not any(token in path.read_text(errors="replace") for path in others)
    assert endpoint.view().token_file == str(token_path(node))
    assert endpoint.view().endpoint == node.endpoint.replace(":", ":127.0.0.1:")


def test_the_port_is_open_on_loopback_alone(endpoint, number, say):
    lines = subprocess.run(["ss", "-Hltn", f"sport = :{number}"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[3] for line in lines.splitlines()] == [f"127.0.0.1:{number}"]


def test_the_private_socket_works_beside_it_without_a_token(endpoint, node):
    assert version(endpoint_path(node)) == "id-1"


REFUSED = {
    "no token": (401, {"authorization": ""}),
    "a wrong token": (401, {"authorization": "Bearer " + "x" * 43}),
    "an empty token": (401, {"authorization": "Bearer "}),
    "another scheme": (401, {"authorization": "Basic Y3M6Y3M="}),
    "a token in another alphabet": (401, {"authorization": "Bearer cafe+/="}),
    "a name that leads here": (403, {"host": "evil.example:7001"}),
    "a host without the port": (403, {"host": "127.0.0.1"}),
    "an address that is another name of loopback": (403, {"host": "0.0.0.0:7001"}),
    "a page of another origin": (403, {"headers": f"{JSON}Origin: http://evil.example\r\n"}),
    "a page from a file": (403, {"headers": f"{JSON}Origin: null\r\n"}),
    "a form": (415, {"headers": "Content-Type: text/plain\r\n"}),
    "a body of no type": (415, {"headers": ""}),
    "a packed body": (415, {"headers": f"{JSON}Content-Encoding: gzip\r\n"}),
    "a link": (405, {"first": "GET / HTTP/1.1"}),
    "a preflight": (405, {"first": "OPTIONS / HTTP/1.1"}),
    "another path": (404, {"first": "POST /x HTTP/1.1"}),
    "a proxy request": (404, {"first": "POST http://127.0.0.1/ HTTP/1.1"}),
    "another HTTP": (400, {"first": "POST / HTTP/2.0"}),
    "no HTTP": (400, {"first": "hello"}),
    "no length": (400, {"length": ""}),
    "a length that is no number": (400, {"length": "Content-Length: +53\r\n"}),
    "a negative length": (400, {"length": "Content-Length: -1\r\n"}),
    "two lengths": (400, {"headers": f"{JSON}Content-Length: 5\r\n"}),
    "two equal lengths": (400, {"headers": f"{JSON}Content-Length: {len(CALL)}\r\n"}),
    "chunks": (400, {"headers": f"{JSON}Transfer-Encoding: chunked\r\n"}),
    "chunks alone": (400, {"length": "Transfer-Encoding: chunked\r\n"}),
    "two hosts": (400, {"headers": f"{JSON}Host: evil.example\r\n"}),
    "two tokens": (400, {"headers": f"{JSON}authorization: Bearer x\r\n"}),
    "a folded header": (400, {"headers": f"{JSON}X-A: b\r\n c: d\r\n"}),
    "white space before the colon": (400, {"headers": f"{JSON}Content-Length : 0\r\n"}),
    "a bare line feed": (400, {"headers": f"{JSON}X-A: b\nTransfer-Encoding: chunked\r\n"}),
    "a NUL": (400, {"headers": f"{JSON}X-A: \0\r\n"}),
    "endless headers": (400, {"headers": f"{JSON}X-A: {'x' * 20_000}\r\n"}),
    "many headers": (400, {"headers": "".join(f"X-{n}: 1\r\n" for n in range(65)) + JSON}),
    "a body that is too long": (413, {"length": f"Content-Length: {request.BODY_BYTES_MAX + 1}\r\n"}),
}


@pytest.mark.parametrize("status, what", REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_call_is_refused_with_a_reason_and_never_reaches_the_node(endpoint, say, status, what):
    answered, body = say(**what)
    error = json.loads(body)["error"]
    assert (answered, bool(error["problem"])) == (status, True)
    assert error["kind"] == ("AuthenticationFailed" if status == 401 else "CodeSmithError")
    assert endpoint.view().counts["served"] == 0


def test_a_body_may_be_as_long_as_the_agent_takes_it():
    assert request.BODY_BYTES_MAX == agent.frontend.http_server.BODY_BYTES_MAX


def test_its_own_origin_and_name_are_welcome(say, number):
    assert say(headers=f"{JSON}Origin: http://localhost:{number}\r\n", host=f"LOCALHOST:{number}")[0] == 200


def test_nothing_of_a_refused_connection_is_served_afterwards(endpoint, dial, number, token):
    """Bytes after a refused request, or in its body, are not read as a request."""
    hidden = good(number, token)
    start = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{number}\r\n{JSON}Content-Length: {len(hidden)}\r\n\r\n".encode()
    sock = dial()
    sock.sendall(start + hidden + hidden)
    assert read_all(sock).count(b"HTTP/1.1 ") == 1
    assert endpoint.view().counts["served"] == 0


def test_requests_in_a_row_are_answered_in_their_order_on_one_stream(endpoint, dial, number, token):
    sock = dial()
    sock.sendall(good(number, token) * 5 + good(number, token, extra="Connection: close\r\n") + good(number, token))
    answers = read_all(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == 6
    assert answers.count(b"id-1") == 6
    assert endpoint.view().counts["served"] == 1


def test_no_header_of_the_client_travels_further(keep, node, number, far_end, monkeypatch):
    seen = []
    post = session.Connection.post
    monkeypatch.setattr(session.Connection, "post", lambda self, *a: seen.append((self._headers, *a)) or post(self, *a))
    keep(node).ensure_ready(5)
    token = token_path(node).read_text().strip()
    with socket.create_connection(("127.0.0.1", number), timeout=10) as sock:
        assert talk(sock, good(number, token, extra="X-Mine: 1\r\nCookie: a=b\r\n"))[0] == 200
    ((headers, body, _deadline),) = seen
    assert (headers, body) == ("Host: localhost\r\n", CALL)


def test_a_client_that_asks_first_is_told_to_go_on(dial, number, token):
    sock = dial()
    sock.sendall(good(number, token, body=b"", extra="Expect: 100-continue\r\n").replace(b": 0\r\n", b": 53\r\n"))
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert talk(sock, CALL)[0] == 200


def test_an_outage_is_told_as_on_the_socket(endpoint, far_end, say):
    far_end.stop()
    far_end.cut(Unreachable("the network is gone", hint="inv node.status"))
    eventually(lambda: endpoint.view().state == "degraded")
    status, body = say()
    assert (status, json.loads(body)["error"]["kind"]) == (503, "Unreachable")
    assert say(authorization="")[0] == 401


def test_disconnect_gives_port_and_token_back_and_ends_connections(endpoint, node, number, dial, token):
    sock = dial()
    assert talk(sock, good(number, token))[0] == 200
    endpoint.stop()
    assert sock.recv(1) == b""
    assert not token_path(node).exists()
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind(("127.0.0.1", number))
        mine.listen()


def test_each_connect_makes_a_new_token(keep, endpoint, node, token, number):
    endpoint.stop()
    keep(node).ensure_ready(5)
    assert token_path(node).read_text().strip() != token
    with socket.create_connection(("127.0.0.1", number), timeout=10) as sock:
        assert talk(sock, good(number, token))[0] == 401


def test_a_token_that_was_removed_is_made_anew(endpoint, node, token):
    token_path(node).unlink()
    endpoint.ensure_ready(5)
    assert token_path(node).read_text().strip() != token


def test_a_port_that_is_taken_is_named_and_taken_over_when_it_is_free(keep, node, number):
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("0.0.0.0", number))
        foreign.listen()
        endpoint = keep(node)
        endpoint.ensure_ready(5)
        seen = endpoint.view()
        assert seen.state == "degraded"
        assert f"cannot open 127.0.0.1:{number}: it is taken by" in seen.reason
        assert version(endpoint_path(node)) == "id-1"
        assert not token_path(node).exists()
    endpoint.ensure_ready(5)
    assert (endpoint.view().state, endpoint.view().reason) == ("ready", "")
    assert token_path(node).exists()


def test_the_holder_of_a_port_is_named_by_program_and_pid(keep, node, number):
    listen = f"import socket, sys; s = socket.create_server(('127.0.0.1', {number})); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        endpoint = keep(node)
        endpoint.ensure_ready(5)
        assert endpoint.view().reason.endswith(f"(pid {other.pid})")
        other.stdin.close()


@pytest.mark.slow
def test_who_says_nothing_or_drips_is_ended_by_an_absolute_time(dial, monkeypatch):
    monkeypatch.setattr(session, "UNAUTHENTICATED_S", 0.3)
    monkeypatch.setattr(request, "REQUEST_S", 0.3)
    silent, dripping = dial(), dial()
    end = time.monotonic() + 10
    with pytest.raises(OSError):
        while time.monotonic() < end:
            dripping.sendall(b"X")
            time.sleep(0.02)
    assert silent.recv(1) == b""


def test_strangers_who_fill_every_place_make_room_for_a_call(dial, say, number, token):
    known = dial()
    assert talk(known, good(number, token))[0] == 200
    strangers = [dial() for _ in range(tcp_listener.CONNECTIONS_MAX + 20)]
    assert say()[0] == 200
    assert talk(known, good(number, token))[0] == 200
    assert strangers[0].recv(1) == b""


FLOOD = """
import socket, sys
for count in range(10_000):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as sock:
        if count % 10 == 0:
            sock.sendall(b"POST / HTTP/1.1\\r\\n")
"""


@pytest.mark.slow
def test_ten_thousand_connects_leave_it_as_it_was(endpoint, number, say):
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    subprocess.run([sys.executable, "-c", FLOOD, str(number)], check=True, timeout=120)
    assert say()[0] == 200
    # The call's own connection is still open, with its threads, its way on and what the stand-ins need for it.
    eventually(lambda: len(os.listdir("/proc/self/task")) <= threads + 6, "threads left")
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= files + 8, "descriptors left")


def test_a_client_of_the_port_needs_url_and_token_file_alone(endpoint, node, number):
    with codesmith.connect(url=f"http://localhost:{number}/", token_file=token_path(node)) as client:
        assert client.node.version().node_id == "id-1"
    token_path(node).write_text("x" * 43)
    with pytest.raises(CodeSmithError, match="no valid token") as caught:
        client.node.version()
    assert caught.value.exit_code == 4
    endpoint.stop()
    with pytest.raises(CodeSmithError, match="cannot read the token"):
        client.node.version()
    token_path(node).write_text("x" * 43)
    with pytest.raises(Unreachable, match="nothing listens"):
        client.node.version()


OTHERS = ["http://web1:7001", "https://127.0.0.1:7001", "http://127.0.0.1", "http://127.0.0.1:70000"]


@pytest.mark.parametrize("url", [*OTHERS, "http://127.0.0.1:1@evil:1/"])
def test_a_token_is_sent_nowhere_but_to_loopback(url, tmp_path):
    with pytest.raises(CodeSmithError, match="not the URL of an endpoint"):
        codesmith.connect(url=url, token_file=tmp_path / "token")
