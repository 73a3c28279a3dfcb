"""Streams of `run`: what goes through them, as it is; and that a job ends with its stream."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.supervisor.jobs import HANGUP_S
from tests.agent.supervisor.client import (
    INPUT,
    PING,
    PONG,
    RESIZE,
    SIGNAL,
    STDOUT,
    Stream,
    command,
    run,
)
from tests.agent.supervisor.conftest import Supervisor


def memory_of(supervisor: Supervisor) -> int:
    """Return the memory of the supervisor's own, in bytes."""
    lines = Path(f"/proc/{supervisor.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_outputs_come_apart_in_order_as_they_are(supervisor: Supervisor) -> None:
    blob = random.Random(1).randbytes(3_000_000)
    (supervisor.folder / "place" / "blob").write_bytes(blob)
    with run(supervisor, "sh", "-c", "cat blob; cat blob >&2; exit 7") as stream:
        stdout, stderr, ended = stream.rest()
    assert (stdout == blob, stderr == blob) == (True, True)
    duration_s = ended.pop("duration_s")
    assert ended == {"state": "exited", "exit_code": 7, "signal": None, "killed_by": None}
    assert 0 <= duration_s < 20


@pytest.mark.parametrize(
    ("argv", "state", "code", "name", "said"),
    [
        (["true"], "exited", 0, None, b""),
        (["sh", "-c", "kill -9 $$"], "killed", 137, "SIGKILL", b""),
        (["sh", "-c", "kill -HUP $$"], "killed", 129, "SIGHUP", b""),
        (["no-such-program"], "exited", 127, None, b"no-such-program: not found\n"),
        (["/etc/passwd"], "exited", 126, None, b"/etc/passwd: Permission denied\n"),
    ],
)
def test_the_end_of_a_stream_is_the_true_one(
    supervisor: Supervisor, argv: list[str], state: str, code: int, name: str | None, said: bytes
) -> None:
    with run(supervisor, *argv) as stream:
        stdout, stderr, ended = stream.rest()
    assert (stdout, stderr) == (b"", said)
    assert (ended["state"], ended["exit_code"], ended["signal"], ended["killed_by"]) == (state, code, name, None)


def test_a_long_input_comes_back_through_cat(supervisor: Supervisor) -> None:
    blob = random.Random(2).randbytes(10_000_000)

    def send() -> None:
        for at in range(0, len(blob), 1 << 16):
            stream.send(INPUT, blob[at : at + (1 << 16)])
        stream.send(INPUT)

    with run(supervisor, "cat", stdin="stream") as stream:
        thread = threading.Thread(target=send)
        thread.start()
        stdout, _, ended = stream.rest()
        thread.join()
    assert stdout == blob
    assert ended["exit_code"] == 0


@pytest.mark.slow
def test_an_empty_frame_is_the_end_of_input(supervisor: Supervisor) -> None:
    with run(supervisor, "sh", "-c", "cat; sleep 0.3; echo over", stdin="stream") as stream:
        stream.send(INPUT, b"in\n")
        stream.send(INPUT)
        assert stream.rest()[0] == b"in\nover\n"


def test_a_half_closed_connection_is_a_dropped_one(supervisor: Supervisor) -> None:
    with run(supervisor, "sleep", "1000", stdin="stream") as stream:
        supervisor.wait_until(lambda: supervisor.pids() != [])
        stream.send(INPUT, bytes(1 << 16) * 2)  # more than the job's pipe holds: it is not read to its end
        stream.connection.shutdown(socket.SHUT_WR)
        supervisor.wait_until(lambda: supervisor.pids() == [])


def test_without_an_input_there_is_none(supervisor: Supervisor) -> None:
    with run(supervisor, "sh", "-c", "cat; until test -e gate; do sleep 0.02; done") as stream:
        stream.send(INPUT, b"nobody reads this")
        supervisor.run("touch", "gate")
        assert stream.rest()[:2] == (b"", b"")


@pytest.mark.slow
def test_a_client_that_does_not_read_stops_its_job_and_nobody_else(supervisor: Supervisor) -> None:
    with run(supervisor, "true") as stream:
        stream.rest()
    before = memory_of(supervisor)
    counter = "import sys\nfor n in range(1 << 30):\n print(f'{n:063}'); n % 64 or open('count', 'w').write(str(n))"
    with run(supervisor, "python3", "-c", counter) as stream:
        count = supervisor.folder / "place" / "count"
        supervisor.wait_until(lambda: count.exists() and int(count.read_text() or "0") * 64 > 1 << 18)
        seen = [-1]

        def stands_still() -> bool:
            seen.append(int(count.read_text() or "0"))
            time.sleep(0.2)
            return seen[-1] == seen[-2]

        supervisor.wait_until(stands_still)
        assert seen[-1] * 64 < 2 << 20
        assert memory_of(supervisor) - before < 1 << 20
        assert supervisor.run("echo", "well")["stdout"] == "well\n"
        lines = stream.until(f"{seen[-1] + 100_000:063}\n".encode()).split(b"\n")
        assert [int(line) for line in lines[:-1]][:1000] == list(range(1000))
    supervisor.wait_until(lambda: supervisor.pids() == [])


def test_a_dropped_stream_ends_its_job_with_all_it_started(supervisor: Supervisor) -> None:
    script = "trap '' TERM INT HUP; setsid sleep 1000 & sleep 1000 & echo begun; wait"
    with run(supervisor, "bash", "-c", script) as stream:
        stream.until(b"begun\n")
    assert HANGUP_S < 2
    supervisor.wait_until(lambda: supervisor.pids() == [])
    supervisor.wait_until(lambda: jobs(supervisor)[0]["state"] != "running")
    [record] = jobs(supervisor)
    assert (record["state"], record["killed_by"], record["ends_with_stream"]) == ("killed", "disconnect", True)


def test_a_job_whose_client_is_gone_may_save_its_work(supervisor: Supervisor) -> None:
    """Also one that nobody reads from any more."""
    script = "trap 'echo saved > saved; exit' HUP; echo begun; while :; do echo more; done"
    with run(supervisor, "bash", "-c", script) as stream:
        stream.until(b"begun\n")
    supervisor.wait_until((supervisor.folder / "place" / "saved").exists)
    supervisor.wait_until(lambda: jobs(supervisor)[0]["state"] != "running")
    [record] = jobs(supervisor)
    assert (record["state"], record["killed_by"]) == ("killed", "disconnect")
    assert supervisor.pids() == []


def jobs(supervisor: Supervisor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = supervisor.ask("job_list")["result"]["jobs"]
    return found


@pytest.mark.slow
def test_a_dropped_stream_ends_its_job_also_while_input_waits(supervisor: Supervisor) -> None:
    with run(supervisor, "sleep", "1000", stdin="stream") as stream:
        stream.connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                stream.send(INPUT, bytes(1 << 16))
        assert supervisor.pids()
    supervisor.wait_until(lambda: supervisor.pids() == [])


@pytest.mark.slow
def test_a_client_that_answers_no_ping_has_gone(start: Callable[..., Supervisor]) -> None:
    supervisor = start(ping_s=0.1, silence_s=3.0)
    with run(supervisor, "sleep", "1000") as silent, run(supervisor, "sh", "-c", "sleep 5; echo over") as well:
        assert well.receive() == (PING, b"")
        well.send(PONG)
        assert well.rest()[0] == b"over\n"
        supervisor.wait_until(lambda: supervisor.pids() == [])
        while silent.connection.recv(1 << 16):
            pass


def test_a_signal_frame_reaches_the_process_group(supervisor: Supervisor) -> None:
    with run(
        supervisor, "sh", "-c", "trap 'echo told; exit 3' INT; echo begun; while :; do sleep 0.05; done"
    ) as stream:
        stream.until(b"begun\n")
        stream.send(SIGNAL, b"SIGINT")
        stdout, _, ended = stream.rest()
    assert (stdout[-5:], ended["exit_code"]) == (b"told\n", 3)
    with run(supervisor, "sleep", "1000") as stream:
        stream.send(SIGNAL, b"SIGTERM")
        ended = stream.rest()[2]
    assert (ended["exit_code"], ended["signal"], ended["killed_by"]) == (143, "SIGTERM", None)


def test_a_pipe_that_a_child_keeps_holds_up_no_end(supervisor: Supervisor) -> None:
    with run(supervisor, "bash", "-c", "setsid sleep 1000 & echo over; exit 2") as stream:
        stdout, _, ended = stream.rest()
    assert (stdout, ended["exit_code"], ended["duration_s"] < 5) == (b"over\n", 2, True)
    assert supervisor.pids() == []


@pytest.mark.slow
def test_a_time_limit_ends_a_job_and_tells_so(supervisor: Supervisor) -> None:
    with run(supervisor, "sleep", "1000", timeout_s=0.3) as stream:
        ended = stream.rest()[2]
    assert (ended["state"], ended["exit_code"], ended["killed_by"]) == ("killed", 137, "timeout")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BI", 77, 0),
        struct.pack(">BI", STDOUT, 1) + b"x",
        struct.pack(">BI", INPUT, (1 << 16) + 1),
        struct.pack(">BI", RESIZE, 2) + b"{}",
        struct.pack(">BI", RESIZE, 9) + b'{"rows":[',
        struct.pack(">BI", RESIZE, 26) + b'{"rows":Infinity,"cols":1}',
        struct.pack(">BI", SIGNAL, 3) + b"mro",
        struct.pack(">BI", RESIZE, 40000) + b"[" * 40000,
        struct.pack(">BI", SIGNAL, 4) + b"SIGX",
        struct.pack(">BI", SIGNAL, 4) + b"\xff\0\0\0",
    ],
)
def test_garbage_ends_its_stream_and_job_alone(supervisor: Supervisor, garbage: bytes) -> None:
    with run(supervisor, "cat", stdin="stream") as other, run(supervisor, "sleep", "1000") as stream:
        stream.connection.sendall(garbage)
        assert stream.connection.recv(1) == b""
        other.send(INPUT, b"well\n")
        other.until(b"well\n")
        other.send(INPUT)
        assert other.rest()[2]["exit_code"] == 0
    supervisor.wait_until(lambda: supervisor.pids() == [])


WRONG: list[dict[str, Any]] = [
    {"id": "no"}, {"argv": []}, {"argv": ["a\0b"]}, {"env": 7}, {"env": {"A=B": "x"}}, {"env": {"A": 7}}, {"cwd": 7},
    {"tty": {"rows": 1}}, {"tty": {"rows": 1, "cols": 0}}, {"timeout_s": "9"}, {"timeout_s": -1}, {"name": "a\nb"},
    {"stdin": "file"}, {"by": 7},
]  # fmt: skip


def test_what_does_not_start_is_told_to_who_asked(supervisor: Supervisor) -> None:
    """Who asked tells the client, which got nothing yet."""
    with supervisor.send("start") as connection:
        while connection.recv(4096):
            pass  # until the supervisor has closed its end: that is none of the descriptors that it keeps
    open_before = len(os.listdir(f"/proc/{supervisor.process.pid}/fd"))
    for fields in WRONG:
        with Stream(supervisor, "run", **{**command("true"), **fields}) as stream:
            assert stream.answer["error"]["data"]["kind"] in ("invalid_params", "command_failed"), fields
            assert stream.connection.recv(1) == b""
        assert "error" in supervisor.ask("job_start", **{**command("true"), **fields}), fields
    assert supervisor.ask("job_list")["result"]["jobs"] == []
    assert list((supervisor.folder / "home/.local/state/codesmith/jobs").glob("*")) == []
    supervisor.wait_until(lambda: len(os.listdir(f"/proc/{supervisor.process.pid}/fd")) == open_before)


@pytest.mark.slow
def test_two_hundred_streams_run_at_once_and_no_more(supervisor: Supervisor) -> None:
    streams = [run(supervisor, "sh", "-c", f"read line; echo {n} $line", stdin="stream") for n in range(200)]
    with run(supervisor, "true") as stream:
        assert stream.answer["error"]["data"]["kind"] == "limit"
    assert supervisor.run("echo", "well")["stdout"] == "well\n"
    for stream in streams:
        stream.send(INPUT, b"word\n")
    for n, stream in enumerate(streams):
        with stream:
            assert stream.rest()[0] == f"{n} word\n".encode()
    assert len(os.listdir(f"/proc/{supervisor.process.pid}/fd")) < 12
