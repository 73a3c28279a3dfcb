"""Kept jobs: records, logs, those who follow, ends, and what a restart leaves of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent.shared import framing
from tests.agent.supervisor.client import (
    INPUT,
    Stream,
    command,
    ended,
    job,
    refusal,
    run,
)
from tests.agent.supervisor.conftest import Supervisor
from tests.agent.supervisor.kept_logs import MIB, folder_of, logs, whole

pytestmark = pytest.mark.slow

TTY = {"rows": 24, "cols": 80, "term": "xterm"}


def test_a_job_goes_on_without_a_connection_and_its_log_is_kept(supervisor: Supervisor) -> None:
    started = job(supervisor, "sh", "-c", "echo one; echo two >&2; until test -e gate; do sleep 0.02; done; exit 3")
    expected = {
        "name": None, "state": "running", "exit_code": None, "signal": None, "killed_by": None, "tty": False,
        "ends_with_stream": False, "ended_at": None, "by": "ann", "duration_s": None,
    }  # fmt: skip
    assert {name: started[name] for name in expected} == expected
    supervisor.wait_until(lambda: logs(supervisor, started["id"])["next_offset"] == 8)
    assert logs(supervisor, started["id"], offset=4) == {
        "data": "two\n", "encoding": "text", "offset": 4, "next_offset": 8, "eof": False,
    }  # fmt: skip
    supervisor.run("touch", "gate")
    record = ended(supervisor, started["id"])
    assert (record["state"], record["exit_code"], record["stdout_bytes"], record["stderr_bytes"]) == ("exited", 3, 4, 4)
    assert record["started_at"] < record["ended_at"]
    assert supervisor.ask("job_get", id=started["id"])["result"]["job"] == record
    assert [one["data"] for one in whole(supervisor, started["id"])] == ["one\ntwo\n"]
    assert [one["data"] for one in whole(supervisor, started["id"], "stdout", 2)] == ["on", "e\n"]
    assert [one["data"] for one in whole(supervisor, started["id"], "stderr")] == ["two\n"]


def test_a_list_is_newest_first_and_of_one_state(supervisor: Supervisor) -> None:
    identifiers = [job(supervisor, "true", name=f"n{n}")["id"] for n in range(3)]
    for identifier in identifiers:
        ended(supervisor, identifier)
    last = job(supervisor, "sleep", "1000")["id"]
    names = lambda **fields: [one["id"] for one in supervisor.ask("job_list", **fields)["result"]["jobs"]]  # noqa: E731
    assert names() == [last, *identifiers[::-1]]
    assert names(state="exited") == identifiers[::-1]
    assert names(state="running") == [last]


def test_a_dropped_client_ends_nothing_and_others_may_write(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "cat", stdin="stream")["id"]
    for n in range(3):
        with Stream(supervisor, "job_attach", id=identifier) as stream:
            stream.send(INPUT, b"%d\n" % n)
            stream.until(b"%d\n" % n)
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT, b"last\n")
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"] == "0\n1\n2\nlast\n")
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT)
        assert stream.rest()[2]["exit_code"] == 0


@pytest.mark.parametrize("tty", [None, TTY])
def test_who_follows_a_job_and_goes_ends_none_of_its_input(supervisor: Supervisor, tty: dict[str, Any] | None) -> None:
    identifier = job(supervisor, "sh", "-c", "while read line; do echo got $line; done", stdin="stream", tty=tty)["id"]
    with Stream(supervisor, "job_attach", id=identifier) as gone:
        gone.receive()
    with Stream(supervisor, "job_attach", id=identifier) as half:
        half.connection.shutdown(socket.SHUT_WR)
        while half.connection.recv(1 << 16):
            pass
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT, b"this\n")
        stream.until(b"got this")
    assert supervisor.ask("job_stop", id=identifier, signal="SIGKILL")["result"]["job"]["state"] == "killed"


def test_a_terminal_of_a_job_can_be_used_by_who_attaches(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "bash", "--norc", tty=TTY)["id"]
    with Stream(supervisor, "job_attach", id=identifier, offset=0) as stream:
        stream.send(INPUT, b'stty size; echo a""b\n')
        assert b"24 80" in stream.until(b"ab\r\n")
    assert supervisor.ask("job_stop", id=identifier, grace_s=0.2)["result"]["job"]["state"] == "killed"


def test_a_stop_ends_a_job_with_all_it_started_after_its_grace(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "bash", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000 & echo begun; wait; wait")[
        "id"
    ]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    begun = time.monotonic()
    record = supervisor.ask("job_stop", id=identifier, signal="SIGTERM", grace_s=0.5)["result"]["job"]
    assert time.monotonic() - begun > 0.4
    assert (record["state"], record["signal"], record["killed_by"]) == ("killed", "SIGKILL", "operator")
    assert supervisor.pids() == []
    assert supervisor.ask("job_stop", id=identifier)["result"]["job"] == record


def test_what_a_job_started_has_the_same_grace(supervisor: Supervisor) -> None:
    child = "trap 'sleep 0.3; echo saved >done; exit' TERM; echo begun; while :; do sleep 0.02; done"
    identifier = job(supervisor, "sh", "-c", f'sh -c "{child}" & wait')["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    record = supervisor.ask("job_stop", id=identifier, grace_s=10)["result"]["job"]
    assert (record["state"], record["exit_code"], record["signal"]) == ("killed", 143, "SIGTERM")
    assert (supervisor.folder / "place/done").read_text() == "saved\n"


def test_a_stop_may_send_another_signal(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sh", "-c", "trap 'exit 9' INT; echo begun; while :; do sleep 0.02; done")["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    record = supervisor.ask("job_stop", id=identifier, signal="SIGINT", grace_s=10)["result"]["job"]
    assert (record["state"], record["exit_code"], record["killed_by"]) == ("killed", 9, "operator")
    for name in ("SIGNONE", "mro", "__members__"):
        assert refusal(supervisor, "job_stop", id=identifier, signal=name) == "invalid_params"


def test_a_time_limit_ends_a_job(start: Callable[..., Supervisor]) -> None:
    supervisor = start(runtime_s=0.5)
    for timeout_s in (0.3, None, 1000):
        record = ended(supervisor, job(supervisor, "sleep", "1000", timeout_s=timeout_s)["id"])
        assert (record["state"], record["killed_by"]) == ("killed", "timeout")


def test_a_program_that_cannot_be_started_is_a_job_that_ended(supervisor: Supervisor) -> None:
    record = job(supervisor, "no-such-program")
    assert (record["state"], record["exit_code"]) == ("exited", 127)
    assert logs(supervisor, record["id"])["data"] == "no-such-program: not found\n"


def test_a_job_that_ended_can_be_deleted(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sleep", "1000")["id"]
    assert refusal(supervisor, "job_delete", id=identifier) == "in_use"
    supervisor.ask("job_stop", id=identifier, grace_s=0)
    assert supervisor.ask("job_delete", id=identifier) == {"result": {}}
    assert list(folder_of(supervisor).iterdir()) == []
    for request in ("job_get", "job_logs", "job_wait", "job_stop", "job_delete"):
        assert refusal(supervisor, request, id=identifier) == "not_found"
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        assert stream.answer["error"]["data"]["kind"] == "not_found"


def test_a_wait_ends_with_its_time_or_the_job(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sh", "-c", "until test -e gate; do sleep 0.02; done")["id"]
    assert supervisor.ask("job_wait", id=identifier, timeout_s=0.1)["result"]["job"]["state"] == "running"
    with supervisor.send("job_wait", id=identifier, timeout_s=20) as connection:
        supervisor.run("touch", "gate")
        assert framing.receive(connection, MIB)["result"]["job"]["state"] == "exited"


def test_who_watches_is_told_of_each_start_and_end(supervisor: Supervisor) -> None:
    first = job(supervisor, "sleep", "1000")
    with supervisor.send("watch") as connection:
        receive = lambda: framing.receive(connection, MIB)  # noqa: E731
        assert receive() == {"jobs": [first]}
        second = job(supervisor, "true")
        assert receive() == {"job": second}
        assert receive() == {"job": ended(supervisor, second["id"])}
        with run(supervisor, "true") as stream:
            stream.rest()
        assert [receive()["job"]["state"] for _ in range(2)] == ["running", "exited"]
        os.kill(supervisor.process.pid, signal.SIGTERM)
        told = receive()["job"]
        assert (told["id"], told["state"], told["killed_by"]) == (first["id"], "killed", "operator")


def test_two_hundred_jobs_run_at_once_and_no_more(supervisor: Supervisor) -> None:
    script = "until test -e gate; do sleep 0.5; done; echo $0; for n in $(seq 5000); do echo $n; done"
    identifiers = [job(supervisor, "sh", "-c", script, str(n))["id"] for n in range(200)]
    assert refusal(supervisor, "job_start", **command("true")) == "limit"
    assert supervisor.run("touch", "gate")["exit_code"] == 0
    for n, identifier in enumerate(identifiers):
        assert ended(supervisor, identifier)["exit_code"] == 0
        assert logs(supervisor, identifier, limit=5)["data"].split("\n")[0] == str(n)
    assert len(os.listdir(f"/proc/{supervisor.process.pid}/fd")) < 12


def test_what_ran_when_a_supervisor_was_killed_is_lost(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    over = job(supervisor, "sh", "-c", "echo over; exit 4")["id"]
    before = ended(supervisor, over)
    lost = job(supervisor, "sh", "-c", "echo there; echo more >&2; sleep 1000")["id"]
    supervisor.wait_until(lambda: logs(supervisor, lost)["next_offset"] == 11)
    supervisor.process.kill()
    supervisor = start()
    supervisor.ask("start")  # one that is only looked at ends at once
    assert [one["id"] for one in supervisor.ask("job_list")["result"]["jobs"]] == [lost, over]
    assert supervisor.ask("job_get", id=over)["result"]["job"] == before
    record = supervisor.ask("job_get", id=lost)["result"]["job"]
    assert (record["state"], record["exit_code"], record["stdout_bytes"], record["stderr_bytes"]) == (
        "lost",
        None,
        6,
        5,
    )
    assert record["ended_at"] >= record["started_at"]
    for identifier, data in ((over, "over\n"), (lost, "there\nmore\n")):
        piece = logs(supervisor, identifier)
        assert (piece["data"], piece["eof"]) == (data, True)
    with Stream(supervisor, "job_attach", id=lost, offset=0) as stream:
        stdout, stderr, end = stream.rest()
    assert (stdout, stderr, end["state"], end["exit_code"]) == (b"there\n", b"more\n", "lost", None)


def test_a_sigterm_ends_jobs_and_is_written_down(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    identifier = job(
        supervisor, "sh", "-c", "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.02; done"
    )["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    os.kill(supervisor.process.pid, signal.SIGTERM)
    assert supervisor.process.wait(10) == 0
    supervisor = start()
    supervisor.ask("start")
    record = supervisor.ask("job_get", id=identifier)["result"]["job"]
    assert (record["state"], record["killed_by"]) == ("killed", "operator")
    assert logs(supervisor, identifier, stream="stdout")["data"] == "begun\nsaved\n"


def test_an_ended_job_that_nobody_was_told_of_keeps_the_supervisor(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.3, unseen_s=3600)
    identifier = job(supervisor, "true")["id"]
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.process.wait(1.5)
    with supervisor.send("watch") as connection:
        assert framing.receive(connection, MIB)["jobs"][0]["id"] == identifier
        assert supervisor.process.wait(5) == 0


def test_one_that_is_only_watched_ends_when_it_is_idle(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.5)
    with supervisor.send("watch") as connection:
        assert framing.receive(connection, MIB) == {"jobs": []}
        assert supervisor.process.wait(5) == 0
        assert connection.recv(1) == b""


def test_a_running_job_keeps_the_supervisor(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.3, unseen_s=0)
    job(supervisor, "sleep", "1.5")
    begun = time.monotonic()
    assert supervisor.process.wait(10) == 0
    assert time.monotonic() - begun > 1.4


def test_the_number_of_ended_jobs_is_bounded(supervisor: Supervisor) -> None:
    identifiers = [job(supervisor, "no-such-program")["id"] for _ in range(260)]
    there = [one["id"] for one in supervisor.ask("job_list")["result"]["jobs"]]
    assert there == identifiers[:3:-1]
    assert len(list(folder_of(supervisor).iterdir())) == 256


def test_a_watcher_that_reads_nothing_is_let_go(supervisor: Supervisor) -> None:
    connection = supervisor.send("watch")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    with connection:
        for _ in range(20):
            job(supervisor, "true", *["x" * 4000])
        assert supervisor.run("echo", "well")["stdout"] == "well\n"
