"""Jobs at the front end: what it passes on, what it remembers, what it records, and what a hostile supervisor gets."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import files, job_answers, job_records, jobs, kept_jobs, runtime_client
from agent.frontend.commands import Commands
from agent.frontend.job_answers import check_job, check_jobs, check_logs
from agent.shared import framing
from agent.shared.errors import AgentError, CommandFailed, InUse
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.stand_in_jobs import ENDED, StandInJobs, record
from tests.agent.frontend.test_stream import exactly, open_stream
from tests.waiting import eventually

SECRET = "hunter2-of-the-test"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the workspaces whose runtimes run."""
    running = {"demo"}
    monkeypatch.setattr("agent.frontend.runtime_state.is_running", lambda workspace: workspace in running)
    return running


@pytest.fixture
def supervisor(tmp_path: Path, runs: set[str]) -> Iterator[StandInJobs]:
    there = StandInJobs(tmp_path / "demo.sock")
    yield there
    if "demo" in runs:
        there.close()


@pytest.fixture
def demo(rpc: Rpc, supervisor: StandInJobs) -> Rpc:
    rpc.call("workspace.create", name="demo")
    return rpc


def end_runtime(supervisor: StandInJobs, runs: set[str]) -> None:
    runs.discard("demo")
    supervisor.close()


def ends(rpc: Rpc) -> list[dict[str, Any]]:
    return [line for line in rpc.audited() if line["method"] == "job.end"]


def start(rpc: Rpc, *argv: str, **params: Any) -> dict[str, Any]:
    job: dict[str, Any] = rpc.call("job.start", workspace="demo", argv=list(argv) or ["make", "all"], **params)
    return job


def test_a_job_is_started_looked_at_and_ended(demo: Rpc, supervisor: StandInJobs) -> None:
    job = start(demo, "make", "all", name="build", env={"A": "b"}, stdin="stream", timeout_s=60)
    asked = next(one for one in supervisor.requests if one["request"] == "job_start")
    assert (asked["by"], asked["cwd"], asked["stdin"], asked["env"]) == ("root", "", "stream", {"A": "b"})
    assert (job["state"], job["name"], job["by"], job["stream"]) == ("running", "build", "root", None)
    look = {key: value for key, value in job.items() if key != "stream"}
    assert demo.call("job.get", workspace="demo", id=job["id"]) == look
    assert demo.call("job.list", workspace="demo") == demo.call("job.list", workspace="demo", state="running") == [look]
    assert demo.call("job.list", workspace="demo", state="exited") == []
    assert demo.call("job.logs", workspace="demo", id=job["id"])["data"] == "one\n"
    assert demo.call("job.wait", workspace="demo", id=job["id"], timeout_s=1)["state"] == "running"
    ended = demo.call("job.stop", workspace="demo", id=job["id"])
    assert (ended["state"], ended["exit_code"], ended["killed_by"]) == ("killed", 143, "operator")
    assert demo.call("job.delete", workspace="demo", id=job["id"]) == {"id": job["id"], "deleted": True}
    for method in ("get", "stop", "wait", "logs", "attach", "delete"):
        refusal = demo.refuses(f"job.{method}", 1001, workspace="demo", id=job["id"])
        assert refusal["data"]["hint"] == "inv job.list demo"


def test_a_job_with_a_stream_starts_with_it(demo: Rpc, supervisor: StandInJobs) -> None:
    job = start(demo, "make", env={"A": "b"}, ends_with_stream=True, tty={"rows": 24, "cols": 80, "term": "xterm"})
    assert (job["state"], job["started_at"], job["tty"], job["ends_with_stream"]) == ("waiting", None, True, True)
    assert supervisor.requests == []
    assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "waiting"
    assert [one["id"] for one in demo.call("job.list", workspace="demo", state="waiting")] == [job["id"]]
    assert demo.call("job.wait", workspace="demo", id=job["id"], timeout_s=0.1)["state"] == "waiting"
    demo.refuses("job.stop", 1004, workspace="demo", id=job["id"])
    demo.refuses("job.delete", 1004, workspace="demo", id=job["id"])
    connection, status = open_stream(demo, job["stream"]["token"])
    with connection:
        assert status == 101
        eventually(lambda: len(supervisor.streams) == 1)
        assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "running"
        os.close(supervisor.streams[0])
    run = next(one for one in supervisor.requests if one["request"] == "run")
    assert (run["id"], run["argv"], run["tty"]["cols"], run["by"]) == (job["id"], ["make"], 80, "root")


def test_a_token_attaches_to_a_job(demo: Rpc, supervisor: StandInJobs) -> None:
    job = start(demo)
    given = demo.call("job.attach", workspace="demo", id=job["id"], offset=7)
    connection, status = open_stream(demo, given["token"])
    with connection:
        assert status == 101
        eventually(lambda: len(supervisor.streams) == 1)
        os.close(supervisor.streams[0])
    attach = next(one for one in supervisor.requests if one["request"] == "job_attach")
    assert (attach["id"], attach["offset"]) == (job["id"], 7)


def refuse_as_older(connection: socket.socket, _: dict[str, Any]) -> None:
    data = {"kind": "invalid_params", "errors": []}
    framing.send(connection, {"error": {"code": -32602, "message": "request: is unknown", "data": data}})


def test_a_runtime_of_an_older_agent_says_what_to_do(demo: Rpc, supervisor: StandInJobs) -> None:
    supervisor.answers = dict.fromkeys(("run", "job_start", "watch"), refuse_as_older)
    refusal = demo.refuses("job.start", 1006, workspace="demo", argv=["make"])
    assert refusal["data"]["hint"].startswith("inv workspace.stop demo")
    connection, status = open_stream(demo, start(demo, ends_with_stream=True)["stream"]["token"])
    with connection:
        assert status == 101
        eventually(lambda: len(supervisor.streams) == 1)
        os.close(supervisor.streams.pop())
        kind, size = struct.unpack(">BI", exactly(connection, 5))
        error = json.loads(exactly(connection, size))
        assert (kind, error["code"], error["data"]["kind"]) == (9, 1006, "unsupported")
        assert connection.recv(1) == b""


def test_a_stream_whose_runtime_ends_before_it_takes_it_is_closed(demo: Rpc, supervisor: StandInJobs) -> None:
    supervisor.answers["run"] = lambda connection, _: connection.close()
    connection, status = open_stream(demo, start(demo, ends_with_stream=True)["stream"]["token"])
    with connection:
        assert status == 101
        eventually(lambda: len(supervisor.streams) == 1)
        os.close(supervisor.streams.pop())
        kind, size = struct.unpack(">BI", exactly(connection, 5))
        assert (kind, json.loads(exactly(connection, size))["data"]["kind"]) == (9, "command_failed")
        assert connection.recv(1) == b""


def test_a_workspace_without_jobs_is_not_watched(demo: Rpc, supervisor: StandInJobs) -> None:
    demo.call("workspace.start", name="demo")
    assert demo.store.workspaces_with_jobs() == []
    demo.call("job.list", workspace="demo")
    supervisor.wait_for_watch()
    asked = [one["request"] for one in supervisor.requests]
    assert asked == ["start", "job_list", "watch"]
    supervisor.tell("0123456789ab", by=None)
    eventually(lambda: demo.store.workspaces_with_jobs() == ["demo"])


def test_two_hundred_streams_cost_the_front_end_nothing(demo: Rpc, supervisor: StandInJobs) -> None:
    start(demo)
    supervisor.wait_for_watch()
    eventually(lambda: demo.connections.count == 0)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        for _ in range(200):
            connection, status = open_stream(demo, start(demo, ends_with_stream=True)["stream"]["token"])
            stack.enter_context(connection)
            assert status == 101
        eventually(lambda: len(supervisor.streams) == 200)
        for descriptor in supervisor.streams:
            stack.callback(os.close, descriptor)
        eventually(lambda: demo.connections.count == 0)
        eventually(lambda: threading.active_count() == threads)
        # Those of the clients, and those of the runtime.
        assert len(os.listdir("/proc/self/fd")) == descriptors + 400
        assert demo.call("node.version")


def test_jobs_of_a_stopped_workspace_are_known_and_nothing_is_started(
    demo: Rpc, supervisor: StandInJobs, runs: set[str]
) -> None:
    job = start(demo)
    supervisor.wait_for_watch()
    supervisor.tell(job["id"], **ENDED, stdout_bytes=4)
    eventually(lambda: ends(demo))
    end_runtime(supervisor, runs)
    before = list(demo.helper.calls)
    found = demo.call("job.get", workspace="demo", id=job["id"])
    assert (found["state"], found["exit_code"], found["stdout_bytes"]) == ("exited", 0, 4)
    assert demo.call("job.list", workspace="demo") == [found]
    assert demo.call("job.wait", workspace="demo", id=job["id"]) == found
    assert demo.call("job.stop", workspace="demo", id=job["id"]) == found
    demo.refuses("job.get", 1001, workspace="demo", id="0123456789ab")
    assert demo.helper.calls == before
    demo.call("workspace.delete", name="demo")
    demo.call("workspace.create", name="demo")
    assert demo.call("job.list", workspace="demo") == []


def test_each_end_is_recorded_once_without_its_command(demo: Rpc, supervisor: StandInJobs) -> None:
    job = start(demo, "make", SECRET, env={"TOKEN": SECRET}, request_id="r1")
    supervisor.wait_for_watch()
    supervisor.tell(job["id"], **ENDED)
    supervisor.tell(job["id"], state="running", exit_code=None, ended_at=None)
    supervisor.tell(job["id"], **ENDED, stdout_bytes=9)
    eventually(lambda: ends(demo))
    stopped = start(demo, ends_with_stream=True)
    connection, _ = open_stream(demo, stopped["stream"]["token"])
    with connection:
        eventually(lambda: len(supervisor.streams) == 1)
        os.close(supervisor.streams.pop())
        killed = {"state": "killed", "exit_code": 137, "signal": "SIGKILL", "killed_by": "disconnect"}
        supervisor.tell(stopped["id"], **ENDED | killed)
        eventually(lambda: len(ends(demo)) == 2)
    first, second = ends(demo)
    assert first["target"] == {"workspace": "demo", "id": job["id"]}
    assert (first["exit_code"], first["signal"], first["killed_by"]) == (0, None, None)
    assert (first["owner"], first["peer_uid"], first["outcome"], first["duration_s"]) == ("demo", None, "ok", 2.5)
    assert (second["exit_code"], second["signal"], second["killed_by"]) == (137, "SIGKILL", "disconnect")
    begun = next(line for line in demo.audited() if line["method"] == "job.start")
    assert begun["target"] == {"workspace": "demo", "id": job["id"]}
    assert SECRET not in demo.audit.read_text()
    newest = demo.call("audit.list", limit=1)[0]
    assert (newest["method"], newest["exit_code"], newest["killed_by"]) == ("job.end", 137, "disconnect")


def test_what_starts_inside_is_listed_and_has_no_audit_record(demo: Rpc, supervisor: StandInJobs) -> None:
    start(demo)
    supervisor.wait_for_watch()
    for number in range(20):
        supervisor.tell(f"{number:012x}", **ENDED, by=None)
    eventually(lambda: len(demo.store.list_jobs("demo")) == 21)
    assert ends(demo) == []


def test_who_the_workspace_belonged_to_finds_what_was_done_in_it(demo: Rpc, supervisor: StandInJobs) -> None:
    demo.call("user.create", name="ada")
    demo.call("user.create", name="bob")
    demo.call("workspace.assign", name="demo", user="ada")
    job = start(demo)
    supervisor.wait_for_watch()
    supervisor.tell(job["id"], **ENDED)
    eventually(lambda: ends(demo))
    demo.call("workspace.assign", name="demo", user="bob")
    demo.call("workspace.delete", name="demo")
    methods = {user: [one["method"] for one in demo.call("audit.list", user=user)] for user in ("ada", "bob")}
    assert methods["ada"] == ["workspace.assign", "job.end", "job.start", "workspace.assign", "user.create"]
    assert methods["bob"] == ["workspace.delete", "workspace.assign", "user.create"]


def test_how_a_command_ended_is_in_its_audit_record(demo: Rpc, supervisor: StandInJobs) -> None:
    done = {
        "exit_code": 137, "signal": "SIGKILL", "killed_by": "timeout", "duration_s": 1.0, "stdout": "", "stderr": "",
        "stdout_encoding": "text", "stderr_encoding": "text", "omitted_bytes": 0,
    }  # fmt: skip
    supervisor.answers["exec"] = lambda connection, _: framing.send(connection, {"result": done})
    demo.call("workspace.exec", name="demo", argv=[SECRET])
    record = demo.audited()[-1]
    assert (record["exit_code"], record["signal"], record["killed_by"]) == (137, "SIGKILL", "timeout")
    assert SECRET not in demo.audit.read_text()


def test_records_of_an_older_agent_are_still_listed(demo: Rpc) -> None:
    line = {key: value for key, value in demo.audited()[-1].items() if key != "owner"}
    with demo.audit.open("a") as file:
        file.write(json.dumps({**line, "method": "user.create"}) + "\n")
    newest = demo.call("audit.list", limit=1)[0]
    assert (newest["method"], newest["owner"], newest["exit_code"]) == ("user.create", None, None)


def test_a_file_is_named_in_the_audit_record(demo: Rpc) -> None:
    demo.answer({"jsonrpc": "2.0", "id": 1, "method": "file.move", "params": {
        "workspace": "demo", "path": "a" * 999, "new_path": "b\x1b[2J"}})  # fmt: skip
    assert demo.audited()[-1]["target"] == {"workspace": "demo", "path": "a" * 128, "new_path": "b\x1b[2J"}


def test_an_upload_has_records_of_its_begin_and_its_move(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, leads_to = "data/.codesmith-upload-1", {"data/.codesmith-upload-2": "data/a"}

    def written(_: object, __: str, action: str, **fields: Any) -> list[Any]:
        if fields.get("data") == "bm8=":
            raise InUse("it has changed")
        path = fields["new_path"] if action == "move" else fields["path"]
        return [leads_to.get(path, path), "file", 3, 0o644, 1_700_000_000_000_000_000, None, "1-2-3-4"]

    def write(path: str, **fields: Any) -> dict[str, Any]:
        return demo.answer({"jsonrpc": "2.0", "id": 1, "method": "file.write", "params": {
            "workspace": "demo", "path": path, "data": "one", **fields}})  # fmt: skip

    monkeypatch.setattr(files, "call", written)
    before = len(demo.audited())
    write(upload, if_etag="absent")
    for number in range(9):
        write(upload, append=True, if_etag="1-2-3-4", request_id=f"piece-{number}-1234")
    demo.call("file.move", workspace="demo", path=upload, new_path="data/a", replace=True)
    begun, moved = (one["target"] for one in demo.audited()[before:])
    assert begun == {"workspace": "demo", "path": upload}
    assert moved == {"workspace": "demo", "path": upload, "new_path": "data/a"}
    before = len(demo.audited())
    write(upload, append=True, if_etag="1-2-3-4", data="no")
    write(upload, append=True)
    write("data/.codesmith-upload-2", append=True, if_etag="1-2-3-4")
    write("data/a", append=True, if_etag="1-2-3-4")
    assert [one["outcome"] for one in demo.audited()[before:]] == ["in_use", "ok", "ok", "ok"]


# Ends that nobody told


def test_what_runs_when_the_runtime_is_gone_is_lost(demo: Rpc, supervisor: StandInJobs, runs: set[str]) -> None:
    job = start(demo)
    supervisor.wait_for_watch()
    end_runtime(supervisor, runs)
    found = demo.call("job.wait", workspace="demo", id=job["id"])
    assert (found["state"], found["exit_code"], found["killed_by"]) == ("lost", None, None)
    assert [line["exit_code"] for line in ends(demo)] == [None]


@pytest.mark.parametrize(
    ("method", "params", "verb"),
    [
        ("workspace.stop", {"name": "demo"}, "runtime.stop"),
        ("workspace.assign", {"name": "demo", "user": "ada"}, "workspace.assign"),
        ("user.disable", {"name": "demo"}, "user.disable"),
        ("sandbox.create", {"workspace": "demo"}, "sandbox.ensure"),
        ("workspace.delete", {"name": "demo"}, "workspace.remove"),
    ],
)
def test_what_we_end_was_killed_by_the_operator(
    demo: Rpc, supervisor: StandInJobs, runs: set[str], method: str, params: Any, verb: str
) -> None:
    demo.call("user.create", name="ada")
    told, untold = start(demo), start(demo)
    supervisor.wait_for_watch()

    def end() -> None:
        supervisor.tell(told["id"], **ENDED)
        end_runtime(supervisor, runs)

    demo.helper.works[verb] = end
    demo.call(method, **params)
    if method == "workspace.stop":
        # A supervisor that was killed itself finds on its disk that the job ran.
        again = StandInJobs(demo.path.parent / "demo.sock")
        again.jobs[untold["id"]] = record(untold["id"], state="lost")
        runs.add("demo")
        states = [job["killed_by"] for job in demo.call("job.list", workspace="demo")]
        assert states == [demo.call("job.get", workspace="demo", id=untold["id"])["killed_by"]] == ["operator"]
        end_runtime(again, runs)
    how = {line["target"]["id"]: (line["exit_code"], line["signal"], line["killed_by"]) for line in ends(demo)}
    assert how == {told["id"]: (0, None, None), untold["id"]: (137, "SIGKILL", "operator")}
    assert len(ends(demo)) == 2


def test_an_end_is_learnt_after_a_restart(tmp_path: Path, supervisor: StandInJobs, runs: set[str]) -> None:
    before = serve(tmp_path)
    rpc = next(before)
    rpc.call("workspace.create", name="demo")
    ended, lost, goes_on = start(rpc), start(rpc), start(rpc)
    with pytest.raises(StopIteration):
        next(before)
    supervisor.jobs[ended["id"]] |= ENDED
    del supervisor.jobs[lost["id"]]
    after = serve(tmp_path)
    rpc = next(after)
    rpc.dispatcher.context.job_watch.resume(["demo"], rpc.store.running_jobs())
    eventually(lambda: len(ends(rpc)) == 2)
    known = {job["id"]: job["state"] for job in rpc.dispatcher.context.job_records.list("demo")}
    assert known == {ended["id"]: "exited", lost["id"]: "lost", goes_on["id"]: "running"}
    with pytest.raises(StopIteration):
        next(after)


def test_what_ran_before_a_restart_in_a_runtime_that_is_gone_is_lost_until_it_says_more(
    tmp_path: Path, supervisor: StandInJobs, runs: set[str]
) -> None:
    before = serve(tmp_path)
    rpc = next(before)
    rpc.call("workspace.create", name="demo")
    job = start(rpc)
    with pytest.raises(StopIteration):
        next(before)
    end_runtime(supervisor, runs)
    after = serve(tmp_path)
    rpc = next(after)
    rpc.dispatcher.context.job_watch.resume(["demo"], rpc.store.running_jobs())
    assert rpc.call("job.get", workspace="demo", id=job["id"])["state"] == "lost"
    again = StandInJobs(tmp_path / "demo.sock")
    again.jobs[job["id"]] = record(job["id"], **ENDED)
    runs.add("demo")
    start(rpc)
    eventually(lambda: rpc.store.get_job("demo", job["id"]).record["state"] == "exited")  # type: ignore[union-attr]
    assert len(ends(rpc)) == 1
    with pytest.raises(StopIteration):
        next(after)
    again.close()


def test_a_store_without_jobs_gets_a_place_for_them(tmp_path: Path) -> None:
    for _ in range(2):
        running = serve(tmp_path)
        rpc = next(running)
        assert rpc.store.running_jobs() == {}
        rpc.store.database.write(("DROP TABLE jobs",))
        with pytest.raises(StopIteration):
            next(running)


# Secrets


def test_no_secret_of_a_job_is_stored(
    demo: Rpc, supervisor: StandInJobs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = start(demo, env={"TOKEN": SECRET}, ends_with_stream=True, request_id="r1")
    again = start(demo, env={"TOKEN": SECRET}, ends_with_stream=True, request_id="r1")
    assert again == {**first, "stream": None}
    demo.call("job.attach", workspace="demo", id=start(demo, env={"TOKEN": SECRET}, request_id="r2")["id"])
    token = first["stream"]["token"]
    connection, status = open_stream(demo, token)
    connection.close()
    assert status == 101
    eventually(lambda: len(supervisor.streams) == 1)
    os.close(supervisor.streams.pop())
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    said = "".join(capfd.readouterr())
    for secret in (SECRET, token):
        assert secret.encode() not in stored
        assert secret not in said


def test_what_waits_for_streams_is_bounded(demo: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.frontend.stream.FIELDS_BYTES_MAX", 150_000)
    start(demo, "x" * 100_000, ends_with_stream=True)
    demo.refuses("job.start", 1008, workspace="demo", argv=["x" * 100_000], ends_with_stream=True)


# Hostile supervisors


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
    records.learn("demo", [*ended, *running])
    known = records.list("demo")
    assert len(known) == 15
    records.learn("gone", ended)
    assert records.list("gone") == []


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
