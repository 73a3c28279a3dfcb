"""The relay adds the promised round trips, and changes nothing else."""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
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


class SkippingSelector(selectors.SelectSelector):
    """Waits for sockets only: where nothing but time would pass, `now_s` has passed already."""

    now_s = 0.0

    def select(self, timeout=None):
        if not timeout:
            return super().select(timeout)
        ready = super().select(0.001)
        if not ready:
            self.now_s += timeout
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while something is computed, so that a busy machine makes nothing late."""

    def __init__(self) -> None:
        self._clock = SkippingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def round_trips(call, talk=None) -> float:
    """Return how many round trips `call(host, port)` waits for behind the relay, exactly."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if talk is not None:
            writer.write(talk)
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()
        await writer.wait_closed()

    async def measured() -> float:
        clock = asyncio.get_running_loop().time
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as far:
            relay = Server(*far.sockets[0].getsockname(), RTT_MS)
            async with await asyncio.start_server(relay.join, "127.0.0.1", 0) as door:
                reader, writer = await asyncio.open_connection(*door.sockets[0].getsockname())
                waited_s = await call(reader, writer, clock)
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
                await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return waited_s * 1000 / RTT_MS

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(measured())


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Callable[[], float]) -> float:
    began = clock()
    writer.write(b"ping")
    assert await reader.read(16) == b"ping"
    return clock() - began


async def ping_again(*connection) -> float:
    await ping(*connection)
    return await ping(*connection)


async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Callable[[], float]) -> float:
    began = clock()
    assert await reader.read(16) == b"SSH-2.0-"
    return clock() - began


def test_a_call_costs_one_round_trip_more(echo):
    assert round_trips(ping_again) == pytest.approx(1)
    with Relay(*echo, RTT_MS) as door, socket.create_connection(door) as connection:
        connection.sendall(b"ping")
        assert connection.recv(16) == b"ping"
        assert time_ms(lambda: connection.sendall(b"ping") or connection.recv(16)) >= RTT_MS


def test_a_new_connection_costs_one_more_on_top(echo):
    assert round_trips(ping) == pytest.approx(2)
    with Relay(*echo, RTT_MS) as door:
        assert time_ms(lambda: greet(door, b"ping")) >= 2 * RTT_MS


def test_ssh_through_the_relay_waits_for_its_banner_two_round_trips(node):
    assert round_trips(hear, talk=b"SSH-2.0-") == pytest.approx(2)
    relay = node.relay(RTT_MS)
    with relay as door:
        banners = []
        assert time_ms(lambda: banners.append(greet(door))) >= 2 * RTT_MS
        assert banners[0].startswith(b"SSH-2.0-")
        traffic = relay.traffic()
        assert (traffic.connections, traffic.bytes_up, traffic.bytes_down) == (1, 0, len(banners[0]))


def greet(door: tuple[str, int], words: bytes = b"") -> bytes:
    """Connect, say something, and return what comes first."""
    with socket.create_connection(door) as connection:
        connection.sendall(words)
        return connection.recv(256)


def time_ms(work) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


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


@pytest.mark.slow
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
import os, time
from codesmith.lab.relay import Relay
relay = Relay("127.0.0.1", 1, 5)
host, port = relay.__enter__()
(child,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
print(host, port, child, flush=True)
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
