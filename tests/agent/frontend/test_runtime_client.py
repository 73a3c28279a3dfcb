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

from agent.frontend import exchange_jobs, runtime_client
from agent.frontend.runtime_client import Runtimes, RuntimeSilent
from agent.shared import framing
from agent.shared.errors import InUse, LimitReached

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


CLONE: dict[str, Any] = {"request": "git", "for_clone": True}
KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [({"request": "job_start"}, CLONE), (CLONE, {"request": "start"})]


@pytest.mark.parametrize(("first", "second"), KINDS)
def test_no_start_for_a_clone_or_a_command_ends_the_other(
    hostile: Callable[[Answer], Runtimes], monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
) -> None:
    """What runs in a runtime that only just starts is not seen from outside."""
    monkeypatch.setattr(runtime_client, "TURN_WAIT_S", 0.0)
    started: list[bool] = []
    monkeypatch.setattr(Nobody, "call", lambda _, __, for_clone, **___: started.append(for_clone))
    asked, release = threading.Semaphore(0), threading.Event()

    def late(connection: socket.socket) -> None:
        asked.release()
        release.wait(60)
        framing.send(connection, {"result": {}})

    runtimes = hostile(late)
    lasting = threading.Thread(target=runtimes.call, args=("demo",), kwargs=first)
    lasting.start()
    assert asked.acquire(timeout=30)
    before = list(started)
    with pytest.raises(InUse, match="workspace 'demo' has not the whole network"):
        runtimes.call("demo", **second)
    assert started == before
    release.set()
    lasting.join()
    assert runtimes.call("demo", **second) == {}


def test_what_is_left_of_a_push_waits_for_the_transfer_of_another(
    hostile: Callable[[Answer], Runtimes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has pushed: an answer that says in_use would say that it has not."""
    asked, release = threading.Semaphore(0), threading.Event()

    def late(connection: socket.socket) -> None:
        asked.release()
        release.wait(60)
        framing.send(connection, {"result": {"exit_code": 0, "duration_s": 0.1, "answer": '{"repo": {}}'}})

    monkeypatch.setattr(Nobody, "call", lambda *_, **__: {})
    runtimes = hostile(late)
    transfer = threading.Thread(target=runtimes.call, args=("demo",), kwargs=CLONE)
    transfer.start()
    assert asked.acquire(timeout=30)
    request: dict[str, Any] = {"kind": "push", "name": "site", "ref": None, "credential": {}}
    settle = threading.Thread(target=exchange_jobs.settle, args=(runtimes, "demo", request, 60.0))
    settle.start()
    is_asked_meanwhile = asked.acquire(timeout=0.2)
    release.set()
    for thread in (transfer, settle):
        thread.join()
    assert not is_asked_meanwhile
    assert asked.acquire(timeout=0)
