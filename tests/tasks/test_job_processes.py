"""Real `inv` processes that work with jobs, against a stand-in; connections are cut on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest

from tests.agent.on_node.terminal import Terminal
from tests.sdk.sdk_doubles import error, scripted
from tests.sdk.stream_doubles import INPUT, JOB, POSITION, STDERR, STDOUT, Frames, sandbox_that_refused, stand_in
from tests.tasks.conftest import INV, PATIENCE_S, TOP
from tests.tasks.job_doubles import ENDED, ID, in_turn, piece, plays

pytestmark = pytest.mark.slow
STARTED = {**JOB, "stream": None}
IT_HAS_ENDED = {"error": {"code": 1004, "message": "it has ended", "data": {"kind": "in_use"}}}


def test_a_job_is_started_as_the_options_say(place):
    with stand_in(place.endpoint(), job_start=STARTED) as server:
        words = ["--name", "build", "--cwd", "code", "--env", "A=b", "--keep-stdin", "--timeout", "9"]
        done = place.inv("job.start", "demo", *words, "--json", "--", "make", "-j2")
        params = server.calls[0][1]
    assert (done.returncode, json.loads(done.stdout)) == (0, JOB)
    assert done.stderr == f"follow it: inv job.logs demo {ID} --follow\n"
    assert params.pop("request_id")
    assert params == {
        "workspace": "demo", "argv": ["make", "-j2"], "cwd": "code", "env": {"A": "b"}, "stdin": "stream",
        "name": "build", "timeout_s": 9.0, "ends_with_stream": False,
    }  # fmt: skip


def test_follow_ends_with_the_job_and_its_exit_code(place):
    play = plays(0, (STDOUT, b"out\xff"), (STDERR, b"err"))
    with stand_in(place.endpoint(), play, job_start=STARTED, job_get=ENDED) as server:
        argv = [INV, "job.start", "demo", "--follow", "--", "make"]
        done = subprocess.run(argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"out\xff")
    assert done.stderr == f"attached to job {ID}; to leave it running: Ctrl-C\nerr".encode()
    assert server.calls[1] == ("job.attach", {"workspace": "demo", "id": ID, "offset": 0})


def test_a_cut_connection_is_replaced_and_nothing_is_lost_or_shown_twice(place):
    script = (
        plays(0, (STDOUT, b"one\n"), (STDERR, b"two\n"), cut=True),
        plays(8, (STDOUT, b"three\n"), cut=True),
        plays(14, (STDOUT, b"four\n")),
    )
    with stand_in(place.endpoint(), *script, job_get=in_turn(JOB, JOB, JOB, ENDED)) as server:
        done = place.inv("job.logs", "demo", ID, "--follow")
    assert (done.returncode, done.stdout) == (3, "one\ntwo\nthree\nfour\n")
    lost = (
        "note: web1: the connection ended before the command did; connecting again (Ctrl-C stops this, the job goes on)"
    )
    assert done.stderr.splitlines() == [lost, "note: web1 answers again"] * 2
    offsets = [params["offset"] for method, params in server.calls if method == "job.attach"]
    assert offsets == [0, 8, 14]


def test_an_outage_may_come_again_while_the_connection_is_replaced(place):
    token = {"token": "ab" * 32, "expires_at": ""}
    outage = {"status": 503, "error": {"kind": "Unreachable", "problem": "node web1 is cut off"}}
    with stand_in(
        place.endpoint(), plays(0, (STDOUT, b"one\n"), cut=True), plays(4, (STDOUT, b"two\n")),
        job_get=in_turn(JOB, outage, JOB, JOB, ENDED), job_attach=in_turn(token, outage, token),
    ):  # fmt: skip
        done = place.inv("job.logs", "demo", ID, "--follow")
    assert (done.returncode, done.stdout) == (3, "one\ntwo\n")
    assert "note: node web1 is cut off; connecting again" in done.stderr


def test_a_node_that_is_cut_off_from_the_start_is_an_error(place):
    outage = {"status": 503, "error": {"kind": "Unreachable", "problem": "node web1 is cut off"}}
    with stand_in(place.endpoint(), job_attach=outage):
        done = place.inv("job.logs", "demo", ID, "--follow")
    assert (done.returncode, done.stderr) == (5, "error: node web1 is cut off\n")


def test_a_job_that_ended_meanwhile_is_read_to_its_end(place):
    with stand_in(
        place.endpoint(), plays(0, (STDOUT, b"one\n"), cut=True), job_get=in_turn(JOB, ENDED),
        job_attach=in_turn({"token": "ab" * 32, "expires_at": ""}, IT_HAS_ENDED), job_logs=piece("two\n", 4, eof=True),
    ) as server:  # fmt: skip
        done = place.inv("job.logs", "demo", ID, "--follow")
    assert (done.returncode, done.stdout) == (3, "one\ntwo\n")
    assert [params["offset"] for method, params in server.calls if method == "job.logs"] == [4]


def test_a_table_of_one_job_has_its_workspace(place):
    with stand_in(place.endpoint()):
        assert "demo" in place.inv("job.get", "demo", ID).stdout


@pytest.mark.parametrize("task", ["job.logs --follow", "job.attach", "job.wait"])
def test_ctrl_c_says_that_the_job_goes_on(place, task):
    def waits(frames: Frames) -> None:
        ready.set()
        frames.await_drop()

    def ask(_params):
        ready.set()
        stay.wait(PATIENCE_S)
        return JOB

    ready, stay = threading.Event(), threading.Event()
    name, *options = task.split()
    argv = [INV, name, "demo", ID, *options]
    with stand_in(place.endpoint(), waits, job_wait=ask):
        with subprocess.Popen(
            argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, stderr=-1, text=True
        ) as running:
            assert ready.wait(PATIENCE_S)
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE_S) == 2
            said = running.stderr.read()
            stay.set()
    assert said.endswith(f"error: cancelled: job {ID} goes on\nhint: inv job.logs demo {ID} --follow\n")


def test_a_person_detaches_from_a_job_that_goes_on(place):
    def play(frames: Frames) -> None:
        frames.send(POSITION, {"offset": 0})
        frames.send(STDOUT, b"$ ")
        assert frames.receive()[0] == 4
        while frames.receive() != (INPUT, b"\r"):
            pass
        frames.send(STDOUT, b"\r\n$$ ")
        frames.await_drop()

    environment = {**place.environment, "TERM": "xterm"}
    argv = [INV, "job.attach", "demo", ID]
    with stand_in(place.endpoint(), play, job_get={**JOB, "tty": True}):
        with Terminal(argv, environment, rows=30, columns=200) as terminal:
            before = terminal.mode()
            terminal.wait_for(r"to leave it running: Enter ~ \.(?s:.*)\$ ")
            terminal.types("\r")
            terminal.wait_for(r"\$\$ ")
            terminal.types("~.")
            terminal.wait_for(f"detached: job {ID} goes on; again: inv job.attach demo {ID}")
            assert terminal.wait_for_end() == 0
            assert terminal.mode() == before


def test_attach_from_nothing_ends_no_input(place):
    """A job of a script whose standard input is /dev/null goes on reading."""
    kinds = []

    def play(frames: Frames) -> None:
        frames.send(POSITION, {"offset": 0})
        frames.send(STDOUT, b"x")
        frames.connection.settimeout(0.3)
        try:
            kinds.append(frames.receive())
        except TimeoutError:
            pass
        frames.end(0)

    with stand_in(place.endpoint(), play, job_get=in_turn(JOB, ENDED)):
        assert place.inv("job.attach", "demo", ID).returncode == 3
    assert kinds == []


def test_wait_ends_with_the_exit_code_of_the_job(place):
    with stand_in(place.endpoint(), job_wait=in_turn(JOB, ENDED)):
        assert place.inv("job.wait", "demo", ID, "--json").returncode == 3
    with stand_in(place.endpoint(), job_wait=JOB):
        late = place.inv("job.wait", "demo", ID, "--timeout", "0.01")
    assert (late.returncode, late.stderr.splitlines()[0]) == (124, f"error: job {ID} still runs after 0.01 s")


def test_the_list_has_the_execs_on_demand(place):
    exec_ = {**ENDED, "id": "1" * 12, "ends_with_stream": True}
    with stand_in(place.endpoint(), job_list=[exec_, JOB]):
        usual = place.inv("job.list", "demo", "--json")
        all_ = place.inv("job.list", "demo", "--json", "--all")
    assert [one["id"] for one in json.loads(usual.stdout)] == [ID]
    assert [one["id"] for one in json.loads(all_.stdout)] == ["1" * 12, ID]


def test_a_name_means_the_newest_job_of_that_name(place):
    newest, older = {**ENDED, "name": "build"}, {**ENDED, "name": "build", "id": "1" * 12}
    other, exec_ = {**ENDED, "name": "other", "id": "2" * 12}, {**ENDED, "name": "build", "ends_with_stream": True}
    answers = {
        "job_list": [exec_, other, newest, older], "job_get": {**newest, "stdout_bytes": 2}, "job_attach": IT_HAS_ENDED,
    }  # fmt: skip
    with stand_in(place.endpoint(), **answers, job_wait=newest, job_stop=newest, job_logs=piece("ab", eof=True),
                  job_delete={"id": "2" * 12, "deleted": True}) as server:  # fmt: skip
        for task, code in (("get", 0), ("logs", 0), ("attach", 3), ("wait", 3), ("stop", 0)):
            del server.calls[:]
            assert place.inv(f"job.{task}", "demo", "build").returncode == code
            assert {
                params["id"] for method, params in server.calls if method.startswith("job.") and "id" in params
            } == {ID}
        several = place.inv("job.delete", "demo", "build", "--yes")
        assert place.inv("job.delete", "demo", "other", "--yes").returncode == 0
        assert server.calls[-1][1]["id"] == "2" * 12
        unknown = place.inv("job.logs", "demo", "nope")
    look = "hint: inv job.list demo\n"
    assert (several.returncode, several.stderr) == (1, f"error: 2 jobs are called 'build': name one by its id\n{look}")
    assert (unknown.returncode, unknown.stderr) == (3, f"error: no job 'nope' in workspace demo\n{look}")


@pytest.mark.parametrize("words", ["job.logs", "job.logs --follow", "job.get", "job.wait", "job.attach"])
def test_hosts_that_were_refused_while_it_ran_are_told_with_the_command_that_allows_them(place, words):
    task, *options = words.split()
    refused = {"host": "pypi.org", "port": 443, "count": 2, "last_at": "2026-11-23T00:00:04.000Z"}
    before = {**refused, "host": "example.org", "last_at": "2026-11-22T00:00:00.000Z"}
    box = sandbox_that_refused(refused, before)
    answers = {"job_wait": ENDED, "job_logs": piece("", eof=True), "job_attach": IT_HAS_ENDED, "sandbox_get": box}
    with stand_in(place.endpoint(), job_get=ENDED, **answers):
        told = place.inv(task, "demo", ID, *options).stderr.splitlines()
    assert [line for line in told if line.startswith("denied")] == [
        "denied: pypi.org:443, 2 times, last at 2026-11-23T00:00:04.000Z; "
        "to allow it: inv sandbox.update demo --allow pypi.org"
    ]


def test_a_job_that_ended_at_once_is_told_instead_of_how_to_follow_it(place):
    ended = {**ENDED, "exit_code": 127, "stderr_bytes": 18}
    with stand_in(
        place.endpoint(), job_start={**ended, "stream": None}, job_logs=piece("nosuch: not found\n", eof=True)
    ):
        done = place.inv("job.start", "demo", "--", "nosuch")
    assert (done.returncode, done.stderr.replace("\n", " ")) == (
        127, f"nosuch: not found job {ID} has ended with exit code 127 "
    )  # fmt: skip


def test_attach_to_a_job_that_has_ended_says_so(place):
    with stand_in(place.endpoint(), job_get=ENDED, job_attach=IT_HAS_ENDED):
        done = place.inv("job.attach", "demo", ID)
    said = f"job {ID} has ended with exit code 3; its log: inv job.logs demo {ID}\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", said)


def test_a_lost_job_is_told_and_ends_with_1(place):
    with stand_in(place.endpoint(), job_wait={**JOB, "state": "lost"}):
        done = place.inv("job.wait", "demo", ID)
    assert done.returncode == 1
    assert done.stderr.startswith(f"warning: job {ID} is lost: nobody saw its end")


def test_stop_and_delete_pass_on_what_was_said(place):
    stopped = {**ENDED, "state": "killed", "exit_code": 130, "signal": "SIGINT", "killed_by": "operator"}
    with stand_in(place.endpoint(), job_stop=stopped, job_delete={"id": ID, "deleted": True}) as server:
        assert place.inv("job.stop", "demo", ID, "--signal", "SIGINT", "--grace", "2").returncode == 0
        assert place.inv("job.delete", "demo", ID, "--yes").returncode == 0
    assert (server.calls[0][1]["signal"], server.calls[0][1]["grace_s"]) == ("SIGINT", 2.0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["job.start", "demo"], "error: no command to run\nhint: inv job.start demo -- make"),
        (["job.logs", "demo", ID, "--offset", "1", "--tail", "1"], "error: --offset and --tail exclude each other"),
        (["job.logs", "demo", ID, "--tail", "-1"], "error: --tail takes a whole number from 0, not -1"),
        (["job.list", "demo", "--state", "dead"], "error: --state takes one of running, exited, killed, lost"),
        (["workspace.exec", "demo", "--tty", "--no-tty", "--", "x"], "error: --tty and --no-tty exclude each other"),
    ],
)
def test_what_cannot_be_asked_for_is_said(place, words, says):
    done = place.inv(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(says)


def test_ctrl_c_says_what_the_node_goes_on_with(place):
    """A change was sent; a look was not."""
    for words, goes_on, look in (
        (["workspace.create", "demo"], "workspace.create of demo", "workspace.get demo"),
        (["job.stop", "demo", ID], f"job.stop of {ID}", f"job.get demo {ID}"),
        (["user.delete", "ann", "--yes"], "user.delete of ann", "user.list"),
        (["workspace.get", "demo"], "", ""),
    ):
        said = f": web1 goes on with {goes_on}\nhint: inv {look}\n" if goes_on else "\n"
        with scripted(place.endpoint(), b"HTTP/1.1 200 OK\r\n") as server:
            argv = [INV, *words]
            with subprocess.Popen(argv, cwd=TOP, env=place.environment, stderr=subprocess.PIPE, text=True) as running:
                assert server.was_called.wait(PATIENCE_S)
                running.send_signal(signal.SIGINT)
                assert (running.wait(PATIENCE_S), running.stderr.read()) == (2, f"error: cancelled{said}")


def test_a_refusal_of_a_job_is_ours(place):
    with scripted(place.endpoint(), error(1001, "no job", kind="not_found", hint="inv job.list demo")):
        done = place.inv("job.get", "demo", ID)
    assert (done.returncode, done.stderr) == (3, "error: no job\nhint: inv job.list demo\n")
