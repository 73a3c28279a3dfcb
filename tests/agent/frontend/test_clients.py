"""Clients that are idle, slow, greedy or half closed: other clients are answered, and memory stays bounded."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.frontend import connections, http_server, jsonrpc, timed_stream
from tests.agent.conftest import Rpc

BODY = b'{"jsonrpc":"2.0","id":1,"method":"node.version"}'
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
# What an answer may take, whatever others do.
PATIENCE_S = 2.0
MEMORY_BYTES_MAX = 64 << 20


def until_closed(connection: socket.socket, drip: bytes, every_s: float = 0.05) -> float:
    """Send `drip` again and again; return how many seconds later the peer closed the connection."""
    begun = time.monotonic()
    connection.settimeout(every_s)
    while time.monotonic() < begun + 20:
        try:
            connection.sendall(drip)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "drip"),
    [(b"", b"P"), (b"POST / HTTP/1.1\r\n", b"a: b\r\n"), (HEAD % 200_000 + b"\r\n", b"x")],
    ids=["request line", "headers", "body"],
)
def test_a_byte_now_and_then_does_not_hold_a_connection(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, begin: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(timed_stream, "REQUEST_TIMEOUT_S", 0.6)
    with rpc.connect() as slow:
        slow.sendall(begin)
        assert 0.4 < until_closed(slow, drip) < 10
    assert rpc.call("node.version")


@pytest.mark.slow
def test_a_client_that_does_not_read_its_answer_is_dropped(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REPLY_TIMEOUT_S", 0.6)
    body = json.dumps([{"jsonrpc": "2.0", "id": n, "method": "rpc.discover"} for n in range(8)]).encode()
    whole = len(rpc.post(body)[1])
    with rpc.connect() as slow:
        slow.sendall(HEAD % len(body) + b"\r\n" + body)
        slow.recv(1)
        for _ in range(20):
            time.sleep(0.1)
            slow.recv(1)
        taken = len(b"".join(iter(lambda: slow.recv(65536), b"")))
    assert taken < whole - 100_000


def test_headers_have_a_size(rpc: Rpc) -> None:
    with rpc.connect() as greedy:
        greedy.sendall(b"POST / HTTP/1.1\r\n")
        line = b"x: " + b"y" * 60_000 + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 1 << 22:
                sent += greedy.send(line)
        assert sent < 1 << 20
        assert rpc.call("node.version")


def test_a_request_that_is_cut_short_gets_an_error_or_nothing(rpc: Rpc) -> None:
    for sent in (b"", b"POST", b"POST / HTTP/1.1\r\nHost", HEAD % 500 + b"\r\n" + BODY[:20]):
        with rpc.connect() as half:
            half.sendall(sent)
            half.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda half=half: half.recv(65536), b""))
        assert b"Traceback" not in answer
        assert b'"result"' not in answer


@pytest.mark.slow
def test_two_hundred_idle_slow_and_half_closed_clients_hold_up_nobody(rpc: Rpc) -> None:
    before = resident_bytes()
    clients = [rpc.connect() for _ in range(200)]
    try:
        for number, client in enumerate(clients):
            client.sendall((b"", b"POST / HT", HEAD % 200_000 + b"\r\n" + b"[" * 100_000, BODY)[number % 4])
            if number % 8 > 4:
                client.shutdown(socket.SHUT_WR)
        rpc.patience_s = PATIENCE_S
        for _ in range(50):
            assert rpc.call("node.version")
        assert resident_bytes() - before < MEMORY_BYTES_MAX
    finally:
        rpc.patience_s = 20.0
        for client in clients:
            client.close()


# Says one of these again and again; ends when its standard input does.
GREEDY = """
import contextlib, select, socket, sys
batch = b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'] * 16) + b"]"
bodies = [batch, b"{", b"\\xff" * 1000, b"[" * 200_000, b"[" + b"[]," * 80_000 + b"[]]", b"[" + b"1," * 100_000 + b"1]",
          b'{"a":' * 40_000, b'{"jsonrpc":"2.0","id":' + b"1" * 200_000 + b',"method":"user.list"}']
head = b"POST / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
number = int(sys.argv[2])
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    body = bodies[number % len(bodies)]
    number += 1
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(sys.argv[1])
        connection.sendall(head % len(body) + body)
        if number % 3:
            connection.shutdown(socket.SHUT_WR)
        while number % 5 and connection.recv(1 << 16):
            pass
"""


@pytest.mark.slow
def test_batches_and_malformed_huge_and_nested_requests_hold_up_nobody(rpc: Rpc) -> None:
    idle = [rpc.connect() for _ in range(200)]
    words = [sys.executable, "-c", GREEDY, str(rpc.path)]
    greedy = [
        subprocess.Popen([*words, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for number in range(4)
    ]
    try:
        for one in greedy:
            assert one.stdout
            assert one.stdout.readline() == b"ready\n"
        rpc.patience_s = PATIENCE_S
        for number in range(40):
            assert rpc.call("node.version" if number % 2 else "user.list") is not None
    finally:
        rpc.patience_s = 20.0
        for connection in idle:
            connection.close()
        for one in greedy:
            one.communicate()


def test_long_answers_that_nobody_takes_hold_up_nobody_and_cost_little(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REPLIES_BYTES_MAX", 16 << 20)
    body = json.dumps([{"jsonrpc": "2.0", "id": n, "method": "rpc.discover"} for n in range(5)]).encode()
    whole = len(rpc.post(body)[1])
    before = resident_bytes()
    clients = [rpc.connect() for _ in range(150)]
    try:
        for client in clients:
            client.sendall(HEAD % len(body) + b"\r\n" + body)
        rpc.patience_s = PATIENCE_S
        for client in clients:
            assert client.recv(1) == b"H"
            assert rpc.call("node.version")
        assert resident_bytes() - before < 2 * MEMORY_BYTES_MAX < whole * len(clients)
    finally:
        rpc.patience_s = 20.0
        for client in clients:
            client.close()


def test_a_batch_with_too_long_answers_is_not_carried_out_further(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "BATCH_REPLY_MAX", 1000)
    one = {"jsonrpc": "2.0", "method": "rpc.discover"}
    change = {"jsonrpc": "2.0", "method": "user.create", "params": {"name": "ada"}}
    answers = rpc.answer([{**one, "id": 1}, {**change, "id": 2}, {**one, "id": 3}, one, change])
    told = [(answer["id"], answer.get("error", {}).get("code")) for answer in answers]
    assert told == [(1, None), (2, 1008), (3, 1008)]
    assert rpc.helper.calls == []
    assert [(one["method"], one["outcome"]) for one in rpc.audited()] == [
        ("user.create", "limit"),
        ("user.create", "invalid_request"),
    ]


def test_a_connection_without_a_thread_gives_its_place_back(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with rpc.connect() as connection:
            assert connection.recv(1) == b""
    assert rpc.connections.count == 0
    assert rpc.call("node.version")


def test_slow_senders_make_room_for_others(rpc: Rpc) -> None:
    clients = [rpc.connect() for _ in range(http_server.CONNECTIONS_MAX)]
    try:
        for client in clients:
            client.sendall(HEAD % 1000 + b"\r\n{")
        rpc.patience_s = PATIENCE_S
        for _ in range(5):
            assert rpc.call("node.version")
    finally:
        rpc.patience_s = 20.0
        for client in clients:
            client.close()


@pytest.mark.slow
def test_many_huge_requests_leave_no_memory_behind(rpc: Rpc) -> None:
    body = b"[" + b"[]," * 80_000 + b"[]]"
    rpc.post(body)
    before = resident_bytes()
    for _ in range(20):
        rpc.post(body)
    assert resident_bytes() - before < MEMORY_BYTES_MAX


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":1,"method":"node.version","method":"user.list"}',
        '{"jsonrpc":"2.0","id":1,"method":"user.create","params":{"name":"a","name":"b"}}',
        '{"jsonrpc":"2.0","id":NaN,"method":"node.version"}',
        '{"jsonrpc":"2.0","id":-Infinity,"method":"node.version"}',
        '{"jsonrpc":"2.0","id":1e999,"method":"node.version"}',
        '{"jsonrpc":"2.0","id":%s,"method":"node.version"}' % ("1" * 100_000),
    ],
)  # fmt: skip
def test_what_is_no_json_or_means_two_things_is_refused(rpc: Rpc, text: str) -> None:
    answer = rpc.answer(text.encode())
    assert answer["error"]["code"] == -32700
    assert rpc.helper.calls == []


def test_an_integer_is_written_as_one() -> None:
    import fastjsonschema

    check = fastjsonschema.compile({"type": "object", "additionalProperties": {"type": "integer"}})
    check(jsonrpc.parse_json('{"a": 1}'))
    for text in ('{"a": 1.0}', '{"a": 1e3}', '{"a": true}', '{"a": "1"}', '{"a": null}'):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            check(jsonrpc.parse_json(text))
    assert json.dumps(jsonrpc.parse_json("[0.5, 1e3]")) == "[0.5, 1000.0]"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
