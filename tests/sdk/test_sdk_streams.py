"""Streams of commands: what was written comes as it was, in order; every end is told apart."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codesmith.cli import terminal
from codesmith.errors import AgentRefused, CodeSmithError, StreamLost
from codesmith.nodes.registry import Node
from codesmith.sdk import streams
from codesmith.sdk.api import Tty
from codesmith.sdk.client import Client
from codesmith.sdk.ended import Ended
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.sdk.stream_doubles import (
    END,
    INPUT,
    POSITION,
    REFUSAL,
    RESIZE,
    SIGNAL,
    STDERR,
    STDOUT,
    Frames,
    StandIn,
    stand_in,
)  # fmt: skip

Serve = Callable[..., StandIn]


@pytest.fixture
def node(codesmith_home: Path) -> Node:
    return Node("web1", codesmith_home / "nodes.yaml", "web1.invalid")


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    with Client(node) as client:
        yield client


def write(*pieces: tuple[int, bytes]) -> Callable[[Frames], None]:
    def play(frames: Frames) -> None:
        for kind, data in pieces:
            frames.send(kind, data)
        frames.end(3)

    return play


def test_output_comes_apart_in_order_and_as_it_is(node: Node, client: Client) -> None:
    every = bytes(range(256))
    with stand_in(endpoint_path(node), write((STDOUT, every), (STDERR, b"no"), (STDOUT, b"\xff"))) as server:
        with client.run("demo", ["make"], cwd="code", env={"A": "b"}) as run:
            assert list(run) == [("stdout", every), ("stderr", b"no"), ("stdout", b"\xff")]
            assert run.result() == Ended(3, duration_s=0.5)
        method, params = server.calls[0]
    assert params.pop("request_id")
    assert (method, params) == (
        "job.start",
        {"workspace": "demo", "argv": ["make"], "cwd": "code", "env": {"A": "b"}, "ends_with_stream": True},
    )


def test_what_is_there_is_given_before_the_rest_of_its_frame(node: Node, client: Client) -> None:
    seen = threading.Event()

    def play(frames: Frames) -> None:
        frames.connection.sendall(b"\x01\0\0")
        frames.connection.sendall(b"\0\x06one")
        assert seen.wait(20)
        frames.connection.sendall(b"two")
        frames.end()

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]) as run:
        output = iter(run)
        assert next(output) == ("stdout", b"one")
        seen.set()
        assert run.read() == (b"two", b"")


def test_much_output_is_whole(node: Node, client: Client) -> None:
    piece = bytes(range(256)) * 1024
    with stand_in(endpoint_path(node), write(*[(STDOUT, piece)] * 256)), client.run("demo", ["cat"]) as run:
        out, err = run.read()
    assert (out == piece * 256, err) == (True, b"")


def test_input_sizes_and_signals_are_sent(node: Node, client: Client) -> None:
    data = bytes(range(256)) * 1000
    orders: list[tuple[int, bytes]] = []

    def play(frames: Frames) -> None:
        assert frames.receive_input() == data
        orders.extend(frames.receive() for _ in range(2))
        frames.end(0)

    tty = Tty(rows=10, cols=20, term="xterm")
    with stand_in(endpoint_path(node), play) as server, client.run("demo", ["cat"], stdin=True, tty=tty) as run:
        run.write(data)
        run.end_input()
        run.resize(30, 40)
        run.signal("SIGINT")
        assert run.result().exit_code == 0
    assert orders == [(RESIZE, b'{"rows": 30, "cols": 40}'), (SIGNAL, b"SIGINT")]
    assert (server.calls[0][1]["stdin"], server.calls[0][1]["tty"]) == (
        "stream", {"rows": 10, "cols": 20, "term": "xterm"}
    )  # fmt: skip


def test_an_input_frame_has_64_kib_at_most(node: Node, client: Client) -> None:
    sizes: list[int] = []

    def play(frames: Frames) -> None:
        while sum(sizes) < 150_000:
            kind, payload = frames.receive()
            assert kind == INPUT
            sizes.append(len(payload))
        frames.end(0)

    with stand_in(endpoint_path(node), play), client.run("demo", ["cat"], stdin=True) as run:
        run.write(bytes(150_000))
        run.result()
    assert sizes == [65536, 65536, 150_000 - 2 * 65536]


def test_a_connection_that_ends_before_the_command_is_lost(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        frames.send(STDOUT, b"half")

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]) as run:
        output = iter(run)
        assert next(output) == ("stdout", b"half")
        with pytest.raises(StreamLost, match="web1: the connection ended before the command did") as lost:
            next(output)
    assert lost.value.exit_code == 5


@pytest.mark.slow
def test_a_silent_connection_is_lost(node: Node, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 1)
    with stand_in(endpoint_path(node), Frames.await_drop), client.run("demo", ["make"]) as run:
        with pytest.raises(StreamLost, match="silent for 1 s"):
            run.result()


def test_signs_of_life_are_sent_while_nobody_reads(node: Node, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_S", 0.01)
    alive = threading.Event()

    def play(frames: Frames) -> None:
        assert frames.connection.recv(10, 0x100) == b"\x07\0\0\0\0" * 2  # MSG_WAITALL
        alive.set()
        frames.await_drop()

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]):
        assert alive.wait(20)


def test_a_command_that_did_not_start_is_a_refusal(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        frames.send(REFUSAL, {"code": 1008, "message": "200 jobs run", "data": {"kind": "limit", "hint": "wait"}})

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]) as run:
        with pytest.raises(AgentRefused, match="200 jobs run") as refused:
            run.result()
    assert (refused.value.rpc_kind, refused.value.hint) == ("limit", "wait")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x0b\0\0\0\0",
        b"\x03\0\0\0\x02[]",
        b"\x03\0\0\0\x01{",
        b"\x01\x7f\0\0\0",
        b"\x03\0\xff\0\0",
        b"\x08\0\0\0\x02{}",
    ],
)
def test_what_is_no_stream_is_an_error(node: Node, client: Client, nonsense: bytes) -> None:
    def play(frames: Frames) -> None:
        frames.connection.sendall(nonsense)
        frames.await_drop()

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]) as run:
        with pytest.raises(CodeSmithError, match="web1 sent something that is no stream"):
            run.result()


def test_a_job_is_read_on_from_an_offset(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        frames.send(POSITION, {"offset": 10})
        frames.send(STDOUT, b"abc")
        frames.send(POSITION, {"offset": 1000})
        frames.send(STDERR, b"xy")
        frames.end(0)

    with stand_in(endpoint_path(node), play) as server, client.attach("demo", "4be1f0c29a77", offset=4) as stream:
        pieces = iter(stream)
        assert (next(pieces), stream.offset, stream.omitted_bytes) == (("stdout", b"abc"), 13, 6)
        assert (next(pieces), stream.offset, stream.omitted_bytes) == (("stderr", b"xy"), 1002, 6 + 987)
        assert list(pieces) == []  # whoever leaves before the end cuts the stand-in off
    assert server.calls == [("job.attach", {"workspace": "demo", "id": "4be1f0c29a77", "offset": 4})]


def test_the_end_has_what_ended_it(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        frames.end(137, state="killed", signal="SIGKILL", killed_by="memory", duration_s=2)

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"]) as run:
        assert run.result() == Ended(137, "SIGKILL", "memory", 2.0, "killed")


def test_the_end_of_the_block_drops_the_connection(node: Node, client: Client) -> None:
    dropped = threading.Event()

    def play(frames: Frames) -> None:
        frames.await_drop()
        dropped.set()

    with stand_in(endpoint_path(node), play):
        with client.run("demo", ["make"]):
            pass
        assert dropped.wait(20)


def test_a_command_that_does_not_read_holds_up_its_writer_alone(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        frames.send(STDOUT, b"ready")
        assert hold.wait(20)
        frames.end(0)

    hold, failed = threading.Event(), threading.Event()

    def write_much(run: streams.Stream) -> None:
        try:
            while True:
                run.write(bytes(1 << 16))
        except OSError:
            failed.set()

    with stand_in(endpoint_path(node), play), client.run("demo", ["sleep"], stdin=True) as run:
        writer = threading.Thread(target=write_much, args=(run,))
        writer.start()
        output = iter(run)
        assert next(output) == ("stdout", b"ready")
        hold.set()
        assert run.result().exit_code == 0
        run.drop()
        writer.join(20)
    assert failed.is_set()


def test_a_signal_that_interrupts_no_system_call_is_heard_while_output_is_awaited(node: Node, client: Client) -> None:
    def play(frames: Frames) -> None:
        assert frames.receive() == (INPUT, b"waits")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # at this thread, not at the one that waits
        assert frames.receive() == (SIGNAL, b"SIGINT")
        frames.end(130)

    with stand_in(endpoint_path(node), play), client.run("demo", ["make"], stdin=True) as run:
        with terminal.interrupts(lambda: run.signal("SIGINT"), run.wake_on):
            run.write(b"waits")
            assert run.result().exit_code == 130


@pytest.mark.parametrize(
    "frame",
    [
        (END, {"state": "exited", "exit_code": 0, "signal": None, "killed_by": ["x"], "duration_s": 1}),
        (END, {"state": "exited", "exit_code": "0", "signal": None, "killed_by": None, "duration_s": 1}),
        (END, []),
        (REFUSAL, {"code": 1, "message": "m", "data": "text"}),
    ],
)
def test_an_end_that_is_none_is_told(node: Node, client: Client, frame: tuple[int, Any]) -> None:
    with stand_in(endpoint_path(node), lambda frames: frames.send(frame[0], json.dumps(frame[1]).encode())):
        with client.run("demo", ["make"]) as run, pytest.raises(CodeSmithError, match="no stream"):
            run.result()
