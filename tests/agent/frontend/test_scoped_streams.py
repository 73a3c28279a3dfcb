"""Streams that the holder of a token opens, over real sockets: what they carry, and what ends them."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.frontend import token_streams
from tests.agent.conftest import Rpc
from tests.agent.frontend.stand_in_runtime import StandInRuntime
from tests.agent.frontend.stream_client import BANNER, KEY, answer_of, exactly, head_of
from tests.agent.frontend.token_holder import Holder, make
from tests.waiting import eventually


def dial(holder: Holder) -> tuple[socket.socket, int]:
    token = holder.gets("workspace.dial", name="demo", public_key=KEY)["token"]
    return open_stream(holder, token)


def open_stream(holder: Holder, token: str) -> tuple[socket.socket, int]:
    connection = holder.connect()
    connection.sendall(head_of(token, f"Authorization: Bearer {holder.secret}"))
    return connection, answer_of(connection)


def test_a_stream_carries_bytes_both_ways(front: Rpc, runtime: StandInRuntime) -> None:
    connection, status = dial(make(front))
    data = secrets.token_bytes(3_000_000)
    with connection:
        assert status == 101
        assert exactly(connection, len(BANNER)) == BANNER
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        assert exactly(connection, len(data)) == data
        assert connection.recv(1) == b""
        sender.join()


def test_a_revoked_token_ends_its_streams_alone(front: Rpc, runtime: StandInRuntime) -> None:
    first, second = make(front), make(front)
    (one, _), (other, _) = dial(first), dial(second)
    with one, other:
        exactly(one, len(BANNER))
        exactly(other, len(BANNER))
        front.call("token.revoke", id=first.id)
        assert one.recv(1) == b""
        other.sendall(b"still here")
        assert exactly(other, 10) == b"still here"
    assert eventually(lambda: not runtime.streams[0].fileno() >= 0)


@pytest.mark.slow
def test_a_stream_ends_when_its_token_expires(front: Rpc, runtime: StandInRuntime, monkeypatch: Any) -> None:
    monkeypatch.setattr(token_streams, "LOOK_S", 0.05)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    connection, status = dial(make(front, expires_at=soon))
    with connection:
        assert status == 101
        exactly(connection, len(BANNER))
        assert connection.recv(1) == b""


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_nobody(front: Rpc, runtime: StandInRuntime) -> None:
    lazy, busy = make(front), make(front)
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


def test_a_streams_token_is_of_who_got_it(front: Rpc, runtime: StandInRuntime) -> None:
    first, second = make(front), make(front)
    theirs = first.gets("workspace.dial", name="demo", public_key=KEY)["token"]
    operators = front.call("workspace.dial", name="demo", public_key=KEY)["token"]
    for token in (theirs, operators):
        connection, status = open_stream(second, token)
        connection.close()
        assert status == 401
    with front.connect() as connection:
        connection.sendall(head_of(theirs))
        assert answer_of(connection) == 401
    connection, status = open_stream(first, theirs)
    connection.close()
    assert status == 101


def test_there_are_so_many_streams(front: Rpc, runtime: StandInRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_streams, "STREAMS_MAX", 1)
    holder = make(front)
    first, status = dial(holder)
    second, refused = dial(holder)
    with first, second:
        assert (status, refused) == (101, 503)
