"""What a hostile supervisor answers harms neither the front end nor who works in other workspaces."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import runtime_client
from agent.frontend.runtime_client import Runtimes, RuntimeSilent
from agent.shared import framing
from agent.shared.errors import LimitReached

Answer = Callable[[socket.socket], None]


class Nobody:
    """A helper that must not be asked."""

    def call(self, verb: str, **_: object) -> dict[str, Any]:
        raise AssertionError(verb)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Runtimes]]:
    """Return the client of a runtime that answers each request with a function."""
    monkeypatch.setattr("agent.frontend.runtime_state.is_running", lambda name: True)
    threads: list[threading.Thread] = []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "demo.sock"))
    listening.listen(64)

    def serve(answer: Answer, connection: socket.socket) -> None:
        with connection:
            try:
                framing.receive(connection, framing.REQUEST_MAX)
                answer(connection)
            except OSError:
                pass

    def accept(answer: Answer) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(answer, connection)))
            threads[-1].start()

    def begin(answer: Answer) -> Runtimes:
        threads.append(threading.Thread(target=accept, args=(answer,)))
        threads[-1].start()
        return Runtimes(Nobody(), str(tmp_path))  # type: ignore[arg-type]

    yield begin
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for thread in threads:
        thread.join()


def raw(body: bytes) -> Answer:
    return lambda connection: connection.sendall(struct.pack(">I", len(body)) + body)


def drip(connection: socket.socket) -> None:
    """Send a byte now and then, which no timeout of a single read notices."""
    connection.sendall(struct.pack(">I", 60_000))
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


@pytest.mark.parametrize("body", [b'{"result":' + b"[" * 200_000, b'{"a":' * 10_000, b"[1]", b"\xff", b"{"])
def test_an_answer_that_is_none_is_an_error(hostile: Callable[[Answer], Runtimes], body: bytes) -> None:
    runtimes = hostile(raw(body))
    with pytest.raises(RuntimeSilent):
        runtimes.call("demo", "exec", argv=["true"])
    assert runtimes.status("demo") == {}


def test_only_commands_have_long_answers(hostile: Callable[[Answer], Runtimes]) -> None:
    body = b'{"result":{"since":"' + b"x" * runtime_client.SHORT_BYTES_MAX + b'"}}'
    runtimes = hostile(raw(body))
    assert "since" in runtimes.call("demo", "exec", argv=["true"])
    for request in ("start", "ssh_host_keys", "status"):
        with pytest.raises(RuntimeSilent, match="too long"):
            runtimes.call("demo", request)


def test_an_answer_of_many_small_values_is_none(hostile: Callable[[Answer], Runtimes]) -> None:
    body = b'{"result":{"x":[' + b"[]," * (runtime_client.VALUES_MAX + 1) + b"[]]}}"
    runtimes = hostile(raw(body))
    with pytest.raises(RuntimeSilent, match="more than 32768 values"):
        runtimes.call("demo", "exec", argv=["true"])


@pytest.mark.slow
def test_an_answer_that_drips_ends_with_its_time(
    hostile: Callable[[Answer], Runtimes], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = hostile(drip)
    with pytest.raises(RuntimeSilent, match=r"timed out|too long"):
        runtimes.call("demo", "exec", argv=["true"], reply_timeout_s=0.3)
    monkeypatch.setattr(runtime_client, "STATUS_TIMEOUT_S", 0.3)
    monkeypatch.setattr(runtime_client, "WAIT_TIMEOUT_S", 0.3)
    assert runtimes.status("demo") == {}
    runtimes.wait("demo", "job")


def test_looks_at_one_workspace_do_not_take_all_threads(
    hostile: Callable[[Answer], Runtimes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = threading.Semaphore(0), threading.Event()

    def silent(connection: socket.socket) -> None:
        asked.release()
        release.wait(60)

    monkeypatch.setattr(runtime_client, "STATUS_TIMEOUT_S", 60.0)
    runtimes = hostile(silent)
    looking = [threading.Thread(target=runtimes.status, args=("demo",)) for _ in range(runtime_client.LOOKS_MAX)]
    for thread in looking:
        thread.start()
    for _ in looking:
        assert asked.acquire(timeout=30)
    assert runtimes.status("demo") == {}  # at once: the supervisor answers nobody
    release.set()
    for thread in looking:
        thread.join()


def test_short_requests_of_one_workspace_are_bounded(
    hostile: Callable[[Answer], Runtimes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_client, "TURNS_MAX", 2)
    monkeypatch.setattr(runtime_client, "TURN_WAIT_S", 0.2)
    asked, release = threading.Semaphore(0), threading.Event()

    def silent(connection: socket.socket) -> None:
        asked.release()
        release.wait(60)
        framing.send(connection, {"result": {}})

    runtimes = hostile(silent)
    calls = [threading.Thread(target=runtimes.call, args=("demo", "job_logs")) for _ in range(2)]
    for call in calls:
        call.start()
        assert asked.acquire(timeout=30)
    with pytest.raises(LimitReached, match="2 requests to workspace 'demo'"):
        runtimes.call("demo", "job_logs")
    release.set()
    for call in calls:
        call.join()
    assert runtimes.call("demo", "job_logs") == {}
