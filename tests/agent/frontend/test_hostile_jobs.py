"""Jobs at the front end: what a supervisor in the hands of its login gets by lying, flooding or silence."""

from __future__ import annotations

import json
import socket
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import job_answers, job_records, jobs, kept_jobs, runtime_client
from agent.frontend.commands import Commands
from agent.frontend.job_answers import check_job, check_jobs, check_logs
from agent.shared import framing
from agent.shared.errors import AgentError, CommandFailed
from tests.agent.conftest import Rpc
from tests.agent.frontend.stand_in_jobs import ENDED, StandInJobs, ends, record, start
from tests.waiting import eventually

GOOD = record("0123456789ab")
DONE = record("0123456789ab", **ENDED)


@pytest.mark.parametrize(
    "bad",
    [
        None, [], "x", {}, {**GOOD, "id": "0123456789AB"}, {**GOOD, "id": 7}, {**GOOD, "id": "0123456789ac"},
        {**GOOD, "state": "waiting"}, {**GOOD, "state": []}, {**GOOD, "exit_code": 0}, {**DONE, "exit_code": None},
        {**DONE, "exit_code": 256}, {**DONE, "exit_code": True}, {**DONE, "signal": "SIG\x1b[2J"},
        {**DONE, "killed_by": "ada"}, {**DONE, "killed_by": []}, {**DONE, "ended_at": None}, {**GOOD, "started_at": 1},
        {**GOOD, "started_at": "yesterday"}, {**GOOD, "name": "\x1b"}, {**GOOD, "name": "x" * 65},
        {**GOOD, "by": "\n"}, {**GOOD, "tty": 1}, {**GOOD, "stdout_bytes": -1}, {**GOOD, "stderr_bytes": 1 << 60},
        {**GOOD, "argv": "make"}, {**GOOD, "argv": [1]}, {**GOOD, "argv": ["x"] * 9999},
    ],
)  # fmt: skip
def test_what_is_no_job_is_not_believed(bad: Any) -> None:
    with pytest.raises(CommandFailed, match="nonsense"):
        check_job("demo", bad, "0123456789ab")


def test_a_job_has_the_fields_of_the_contract_and_no_others() -> None:
    found = check_job("demo", {**DONE, "workspace": "other", "token": "x", "argv": ["a" * 8000, "b" * 8000, "c"]})
    assert found["workspace"] == "demo"
    assert "token" not in found
    assert found["argv"] == ["a" * 8000]
    assert set(found) == {*DONE, "workspace"} - {"duration_s"}
    assert len(json.dumps(check_job("demo", {**GOOD, "argv": ["\udc80" * 1000] * 9})["argv"])) < 9000


@pytest.mark.parametrize("bad", [None, {}, [GOOD, None], [record(f"{number:012x}") for number in range(999)]])
def test_what_is_no_list_of_jobs_is_not_believed(bad: Any) -> None:
    with pytest.raises(CommandFailed, match="nonsense"):
        check_jobs("demo", bad)


@pytest.mark.parametrize(
    "change",
    [
        {"data": 1},
        {"data": "x" * 800_000},
        {"encoding": "utf-8"},
        {"offset": -1},
        {"offset": 9},
        {"eof": 1},
        {"next_offset": 0},
        {"next_offset": 5},
        {"offset": 1, "next_offset": 5, "data": "!!!!", "encoding": "base64"},
    ],
)
def test_what_is_no_log_is_not_believed(change: Any) -> None:
    good = {"data": "one\n", "encoding": "text", "offset": 0, "next_offset": 4, "eof": False}
    assert check_logs(good, 0) == good
    with pytest.raises(CommandFailed, match="nonsense"):
        check_logs({**good, **change}, 0)
    with pytest.raises(CommandFailed, match="nonsense"):
        check_logs(good, 1)


def test_a_number_of_a_thousand_digits_is_no_answer(demo: Rpc, supervisor: StandInJobs) -> None:
    body = b'{"result":{"since":' + b"7" * 1000 + b"}}"
    supervisor.answers["start"] = lambda connection, _: connection.sendall(struct.pack(">I", len(body)) + body)
    demo.refuses("workspace.start", 1007, name="demo")


Hostile = Callable[[socket.socket, dict[str, Any]], None]


def endless(connection: socket.socket, _: dict[str, Any]) -> None:
    while True:
        connection.sendall(struct.pack(">I", 1 << 30) + b"[" * 100_000)


def nonsense(connection: socket.socket, _: dict[str, Any]) -> None:
    framing.send(connection, {"jobs": [{"id": "x"}]})


def hang_up(connection: socket.socket, _: dict[str, Any]) -> None:
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [endless, nonsense, hang_up])
def test_a_hostile_watch_is_asked_again_later_and_later(demo: Rpc, supervisor: StandInJobs, hostile: Hostile) -> None:
    supervisor.answers["watch"] = hostile
    job = start(demo)
    eventually(lambda: len([one for one in supervisor.requests if one["request"] == "watch"]) >= 3)
    begun = len(supervisor.requests)
    time.sleep(0.5)
    assert len(supervisor.requests) - begun <= 3
    del supervisor.answers["watch"]
    supervisor.wait_for_watch()
    supervisor.tell(job["id"], **ENDED)
    eventually(lambda: len(ends(demo)) == 1)


@pytest.mark.slow
def test_who_floods_the_watch_is_read_slowly_and_others_are_heard(
    demo: Rpc, supervisor: StandInJobs, tmp_path: Path, runs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.frontend.job_watch.BURST", 50)
    runs.add("calm")
    calm = StandInJobs(tmp_path / "calm.sock")
    demo.call("workspace.create", name="calm")
    job = demo.call("job.start", workspace="calm", argv=["make"])
    calm.wait_for_watch()
    sent: list[int] = []
    finished: list[bool] = []

    def flood(connection: socket.socket, _: dict[str, Any]) -> None:
        framing.send(connection, {"jobs": []})
        connection.settimeout(1.0)
        try:
            for number in range(100_000):
                framing.send(connection, {"job": record(f"{number:012x}", **ENDED)})
                sent.append(number)
        finally:
            finished.append(True)

    supervisor.answers["watch"] = flood
    start(demo)
    eventually(lambda: len(demo.store.list_jobs("demo")) >= 50)
    calm.tell(job["id"], **ENDED)
    eventually(lambda: len(ends(demo)) == 1)
    assert len(demo.store.list_jobs("demo")) < 150
    eventually(lambda: finished)
    assert len(sent) < 5000
    calm.close()


def test_what_is_kept_of_a_workspace_is_bounded(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_jobs, "ENDED_MAX", 10)
    monkeypatch.setattr(job_records, "RUNNING_MAX", 5)
    records = demo.dispatcher.context.job_records
    ended = [check_job("demo", record(f"{number:012x}", **ENDED)) for number in range(50)]
    running = [check_job("demo", record(f"{number:012x}")) for number in range(100, 150)]
    records.learn("demo", [*ended, *running], of=demo.helper.identity)
    known = records.list("demo")
    assert len(known) == 15
    records.learn("gone", ended, of=None)
    assert records.list("gone") == []


@pytest.mark.slow
def test_a_supervisor_that_does_not_answer_holds_up_nobody(
    demo: Rpc, supervisor: StandInJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(runtime_client, "LOOKS_MAX", 2)
    job = start(demo)
    silent = dict.fromkeys(("job_get", "job_list", "job_wait"), lambda connection, _: connection.recv(1))
    supervisor.answers = silent
    assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "running"
    assert [one["id"] for one in demo.call("job.list", workspace="demo")] == [job["id"]]


def test_one_workspace_cannot_take_all_commands(demo: Rpc) -> None:
    commands = Commands()
    with ExitStack() as stack:
        for _ in range(24):
            stack.enter_context(commands.counted("demo"))
        with pytest.raises(AgentError, match="24 commands"), commands.counted("demo"):
            pass
        for _ in range(24):
            stack.enter_context(commands.counted("other"))
        with pytest.raises(AgentError, match="48 commands"), commands.counted("third"):
            pass
    with commands.counted("demo"):
        pass


def test_a_store_that_refuses_does_not_end_the_watch(
    demo: Rpc, supervisor: StandInJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(demo)
    supervisor.wait_for_watch()
    put = demo.store.put_jobs
    failures = iter([sqlite3.OperationalError("database is locked")])

    def fail_once(*arguments: Any) -> int:
        for failure in failures:
            raise failure
        return put(*arguments)

    monkeypatch.setattr(demo.store, "put_jobs", fail_once)
    supervisor.tell("0123456789ab")
    supervisor.tell(job["id"], **ENDED)
    eventually(lambda: ends(demo))
    eventually(lambda: len(demo.store.list_jobs("demo")) == 2)
    assert job_answers.JOBS_MAX > 400
