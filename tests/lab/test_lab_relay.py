"""The relay adds the promised round trips, and changes nothing else."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesmith.lab.relay import Relay
from codesmith.lab.relay_server import Server
from tests.lab.lab_traces import eventually

RTT_MS = 40


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that echoes and closes when its caller does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads: list[threading.Thread] = []

        def talk(connection: socket.socket) -> None:
            with connection:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                threads.append(threading.Thread(target=talk, args=(connection,)))
                threads[-1].start()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in threads:
            one.join()


def time_ms(work) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def median_call_ms(echo, rtt_ms, calls=15) -> float:
    """Time calls on an open connection."""
    with Relay(*echo, rtt_ms) as door, socket.create_connection(door) as connection:

        def call() -> None:
            connection.sendall(b"ping")
            assert connection.recv(16) == b"ping"

        call()
        return min(time_ms(call) for _ in range(calls))


def median_first_call_ms(echo, rtt_ms, calls=5) -> float:
    """Time calls on new connections, including connecting."""
    with Relay(*echo, rtt_ms) as door:

        def call() -> None:
            with socket.create_connection(door) as connection:
                connection.sendall(b"ping")
                assert connection.recv(16) == b"ping"

        return min(time_ms(call) for _ in range(calls))


def test_a_call_costs_one_round_trip_more(echo):
    added = median_call_ms(echo, RTT_MS) - median_call_ms(echo, 0)
    assert 0.9 < added / RTT_MS < 1.9


def test_a_new_connection_costs_one_more_on_top(echo):
    added = median_first_call_ms(echo, RTT_MS) - median_first_call_ms(echo, 0)
    assert 1.9 < added / RTT_MS < 3


def test_ssh_through_the_relay_waits_for_its_banner_two_round_trips(node):
    def banner_ms(rtt_ms: float) -> float:
        with node.relay(rtt_ms) as door:

            def greet() -> None:
                with socket.create_connection(door) as connection:
                    assert connection.recv(256).startswith(b"SSH-2.0-")

            return min(time_ms(greet) for _ in range(20))

    assert 1.9 < (banner_ms(RTT_MS) - banner_ms(0)) / RTT_MS < 3


def test_it_counts_what_goes_through(echo):
    relay = Relay(*echo, 1)
    with relay as door:
        for _ in range(3):
            with socket.create_connection(door) as connection:
                for _ in range(4):
                    connection.sendall(b"12345")
                    connection.recv(16)
        traffic = relay.traffic()
    assert (traffic.connections, traffic.bytes_up, traffic.bytes_down, traffic.round_trips) == (3, 60, 60, 12)


def test_what_is_sent_before_the_answer_came_is_one_round_trip(echo):
    relay = Relay(*echo, 200)
    with relay as door, socket.create_connection(door) as connection:
        for _ in range(2):
            connection.sendall(b"a")
            time.sleep(0.02)
            connection.sendall(b"b")
            assert connection.recv(1) + connection.recv(1) == b"ab"
        assert relay.traffic().round_trips == 2


def test_an_answer_that_nobody_waits_for_is_none(echo):
    relay = Relay(*echo, 20)
    with relay as door:
        with socket.create_connection(door) as connection:
            connection.sendall(b"a")
        eventually(lambda: relay.traffic().bytes_down == 1, "the answer was not carried")
        assert relay.traffic().round_trips == 0


def test_no_byte_is_lost_or_turned_round(echo):
    sent, got = bytes(range(256)) * 40_000, bytearray()
    with Relay(*echo, 10) as door, socket.create_connection(door) as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        while chunk := connection.recv(1 << 20):
            got += chunk
        writer.join()
    assert got == sent


@pytest.mark.parametrize("answers_first", [True, False], ids=["down", "up"])
def test_what_a_slow_reader_has_not_taken_yet_is_not_discarded(answers_first, monkeypatch):
    """Data smaller than asyncio's buffer is still in the relay when both sides have ended."""
    payload = random.Random(4).randbytes(50_000)
    open_connection = asyncio.open_connection

    async def open_small(host: str, port: int):
        sock = small_socket()
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return await open_connection(sock=sock)

    monkeypatch.setattr(asyncio, "open_connection", open_small)

    async def carry() -> bytes:
        loop = asyncio.get_running_loop()
        with small_server() as far, small_server() as door:
            relay = Server(*far.getsockname(), 0)
            joined: list[asyncio.Task[None]] = []

            def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                joined.append(loop.create_task(relay.join(reader, writer)))

            server = await asyncio.start_server(join, sock=door)
            with small_socket() as caller:
                await loop.sock_connect(caller, door.getsockname())
                with (await loop.sock_accept(far))[0] as answerer:
                    answerer.setblocking(False)
                    sender, reader = (answerer, caller) if answers_first else (caller, answerer)
                    reader.shutdown(socket.SHUT_WR)
                    await loop.sock_sendall(sender, payload)
                    sender.shutdown(socket.SHUT_WR)
                    await seen_by(relay, len(payload))
                    got = await read_to_end(loop, reader)
                    await asyncio.wait_for(joined[0], 15)
            server.close()
            return got

    assert asyncio.run(carry()) == payload


def small_socket() -> socket.socket:
    """Make a TCP socket with small kernel buffers, so that data waits in the relay."""
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    return one


def small_server() -> socket.socket:
    listening = small_socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


async def seen_by(relay: Server, size: int) -> None:
    """Wait until the relay has read everything and had time to end the connection."""
    while relay.traffic.bytes_up + relay.traffic.bytes_down < size:
        await asyncio.sleep(0.001)
    for _ in range(1000):
        await asyncio.sleep(0)


async def read_to_end(loop: asyncio.AbstractEventLoop, one: socket.socket) -> bytes:
    got = bytearray()
    while chunk := await loop.sock_recv(one, 65536):
        got += chunk
    return bytes(got)


def test_it_ends_with_its_owner(script):
    code = """
import sys, time
from codesmith.lab.relay import Relay
from codesmith.lab.relay_server import Server
relay = Relay("127.0.0.1", 1, 5)
print(*relay.__enter__(), relay._process.pid, flush=True)
time.sleep(600)
"""
    owner = script(code)
    host, port, pid = owner.line().split()
    assert Path("/proc", pid).exists()
    owner.kill()

    def is_closed() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(is_closed, "the relay outlived its owner")
