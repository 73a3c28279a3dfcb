"""Jobs at the front end: ends that nobody told it, and those that it caused."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import job_watch
from agent.frontend.job_records import JobRecords
from agent.shared import framing
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.stand_in_jobs import ENDED, StandInJobs, end_runtime, ends, record, start
from tests.waiting import eventually


def test_what_runs_when_the_runtime_is_gone_is_lost(demo: Rpc, supervisor: StandInJobs, runs: set[str]) -> None:
    job = start(demo)
    supervisor.wait_for_watch()
    end_runtime(supervisor, runs)
    found = demo.call("job.wait", workspace="demo", id=job["id"])
    assert (found["state"], found["exit_code"], found["killed_by"]) == ("lost", None, None)
    assert [line["exit_code"] for line in ends(demo)] == [None]


def test_a_job_that_begins_while_all_are_asked_for_is_not_lost(demo: Rpc, supervisor: StandInJobs) -> None:
    is_asked, goes_on = threading.Event(), threading.Event()

    def answer_late(connection: socket.socket, _: dict[str, Any]) -> None:
        jobs = list(supervisor.jobs.values())
        is_asked.set()
        assert goes_on.wait(10)
        del supervisor.answers["watch"]  # this connection ends, and the next one is answered at once
        framing.send(connection, {"jobs": jobs})

    supervisor.answers["watch"] = answer_late
    first = start(demo)
    assert is_asked.wait(10)
    second = start(demo)
    goes_on.set()
    supervisor.wait_for_watch()
    known = {job["id"]: job["state"] for job in demo.dispatcher.context.job_records.list("demo")}
    assert (known, ends(demo)) == ({first["id"]: "running", second["id"]: "running"}, [])


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


def test_what_ends_with_a_pair_that_is_deleted_was_killed_by_the_operator(
    demo: Rpc, supervisor: StandInJobs, runs: set[str]
) -> None:
    demo.call("workspace.create", name="guest")
    demo.call("workspace.share", name="demo", user="guest")
    job = start(demo)
    supervisor.wait_for_watch()
    demo.helper.works["workspace.remove"] = lambda: end_runtime(supervisor, runs)
    assert demo.call("workspace.delete", name="guest")["user_deleted"]
    assert demo.call("job.get", workspace="demo", id=job["id"])["killed_by"] == "operator"


def test_a_job_of_a_runtime_that_began_meanwhile_was_not_killed(
    demo: Rpc, supervisor: StandInJobs, runs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_watch, "SETTLE_S", 0.0)
    records = demo.dispatcher.context.job_records
    start(demo)
    supervisor.wait_for_watch()
    with demo.dispatcher.context.job_watch.while_ending(["demo"]):
        end_runtime(supervisor, runs)
        eventually(lambda: not records.running("demo"))
        again = StandInJobs(demo.path.parent / "demo.sock")
        runs.add("demo")
        second = start(demo)
    still = records.running("demo")
    end_runtime(again, runs)
    assert still == [second["id"]]


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


def test_an_end_has_its_record_where_the_front_end_was_killed_before_it_knew_of_the_job(
    tmp_path: Path, supervisor: StandInJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serve(tmp_path)
    rpc = next(before)
    rpc.call("workspace.create", name="demo")
    with monkeypatch.context() as killed:
        killed.setattr(JobRecords, "learn", lambda *_, **__: None)
        job = start(rpc)
        with pytest.raises(StopIteration):
            next(before)
    supervisor.tell("0123456789ab", **ENDED, by="root")  # of somebody inside
    supervisor.tell(job["id"], **ENDED)
    after = serve(tmp_path)
    rpc = next(after)
    rpc.dispatcher.context.job_watch.resume(rpc.store.workspaces_with_jobs(), rpc.store.running_jobs())
    eventually(lambda: len(rpc.store.list_jobs("demo")) == 2)
    assert [line["target"]["id"] for line in ends(rpc)] == [job["id"]]
    assert rpc.store.asked_jobs() == []
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
