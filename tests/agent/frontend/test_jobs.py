"""Jobs at the front end: what it passes on and what it answers."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from agent.shared import framing
from tests.agent.conftest import Rpc
from tests.agent.frontend.stand_in_jobs import ENDED, StandInJobs, end_runtime, ends, start
from tests.agent.frontend.stream_client import exactly, open_stream
from tests.waiting import eventually


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
    for method in ("stop", "delete", "attach", "logs"):
        demo.refuses(f"job.{method}", 1004, workspace="demo", id=job["id"])
    connection, status = open_stream(demo, job["stream"]["token"])
    with connection:
        assert status == 101
        eventually(lambda: len(supervisor.streams) == 1)
        assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "running"
        os.close(supervisor.streams[0])
    run = next(one for one in supervisor.requests if one["request"] == "run")
    assert (run["id"], run["argv"], run["tty"]["cols"], run["by"]) == (job["id"], ["make"], 80, "root")


def test_a_job_waits_until_its_runtime_has_it(demo: Rpc, supervisor: StandInJobs) -> None:
    is_asked, goes_on = threading.Event(), threading.Event()

    def start_late(connection: socket.socket, message: dict[str, Any]) -> None:
        is_asked.set()
        assert goes_on.wait(20)
        supervisor.tell(message["id"], ends_with_stream=True)
        framing.send(connection, {"result": {}})

    supervisor.answers["run"] = start_late
    job = start(demo, ends_with_stream=True)
    connection, _ = open_stream(demo, job["stream"]["token"])
    with connection:
        assert is_asked.wait(20)
        assert demo.call("job.get", workspace="demo", id=job["id"])["state"] == "waiting"
        assert demo.call("job.wait", workspace="demo", id=job["id"], timeout_s=0.1)["state"] == "waiting"
        assert [one["state"] for one in demo.call("job.list", workspace="demo")] == ["waiting"]
        for method in ("stop", "delete", "attach", "logs"):
            demo.refuses(f"job.{method}", 1004, workspace="demo", id=job["id"])
        goes_on.set()
        eventually(lambda: demo.dispatcher.context.stream_tokens.starting("demo") == [])
        assert [one["state"] for one in demo.call("job.list", workspace="demo")] == ["running"]
        assert demo.call("job.stop", workspace="demo", id=job["id"])["state"] == "killed"
        os.close(supervisor.streams.pop())


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


@pytest.mark.slow
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
