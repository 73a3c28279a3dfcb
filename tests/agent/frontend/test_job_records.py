"""Jobs at the front end: what is recorded of them, and of commands and files; no secret is in it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import files
from agent.shared import framing
from agent.shared.errors import InUse
from tests.agent.conftest import Rpc
from tests.agent.frontend.stand_in_jobs import ENDED, StandInJobs, ends, record, start
from tests.agent.frontend.stream_client import open_stream
from tests.waiting import eventually

SECRET = "hunter2-of-the-test"


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


def test_a_job_that_is_deleted_while_somebody_looks_stays_so(
    demo: Rpc, supervisor: StandInJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(demo)
    supervisor.wait_for_watch()
    supervisor.tell(job["id"], **ENDED)
    eventually(lambda: ends(demo))
    records = demo.dispatcher.context.job_records
    learn = records.learn

    def delete_first(workspace: str, heard: Any, **of: Any) -> None:
        demo.call("job.delete", workspace="demo", id=job["id"])
        learn(workspace, heard, **of)

    monkeypatch.setattr(records, "learn", delete_first)
    assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "exited"
    assert records.list("demo") == []
    assert len(ends(demo)) == 1


def test_a_job_of_a_deleted_workspace_is_not_one_of_its_successor(demo: Rpc, supervisor: StandInJobs) -> None:
    def replace_first(connection: socket.socket, message: dict[str, Any]) -> None:
        demo.call("workspace.delete", name="demo")
        demo.helper.identity = "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0002"
        demo.call("workspace.create", name="demo")
        framing.send(connection, {"result": {"job": record(message["id"])}})

    supervisor.answers["job_get"] = replace_first
    assert demo.call("job.get", workspace="demo", id="0123456789ab")["state"] == "running"
    assert demo.store.list_jobs("demo") == []


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
