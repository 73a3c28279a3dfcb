"""Real `inv` processes that stream: `workspace.exec`, with pipes and at a terminal, against a stand-in."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.sdk.stream_doubles import INPUT, JOB, REFUSAL, SIGNAL, STDERR, STDOUT, Frames, sandbox_that_refused, stand_in
from tests.tasks.conftest import INV, PATIENCE_S, TOP
from tests.tasks.exec_command import EXEC, ends, run, start

pytestmark = pytest.mark.slow
EVERY = bytes(range(256))
HEAVY = ("fabric", "paramiko", "cryptography", "rich", "ruamel", "jsonrpclib", "http.client")


def test_a_host_that_was_refused_while_a_command_failed_is_told_with_the_command_that_allows_it(place):
    ran = {**JOB, "state": "exited", "exit_code": 56, "ended_at": "2026-11-23T00:00:05.000Z", "ends_with_stream": True}
    others = [{**ran, "id": "1" * 12, "argv": ["other"]}, {**ran, "id": "2" * 12, "ends_with_stream": False}]
    refused = {"host": "pypi.org", "port": 443, "count": 1, "last_at": "2026-11-23T00:00:04.000Z"}
    answers = {"sandbox_get": sandbox_that_refused(refused), "job_list": [*others, ran]}
    with stand_in(place.endpoint(), ends(code=56), ends(code=0), **answers) as server:
        failed = run(place, "--", *ran["argv"])
        before = len(server.calls)
        worked = run(place, "--", *ran["argv"])
        asked = [method for method, _ in server.calls[before:]]
    told = f"denied: pypi.org:443, once, last at {refused['last_at']}; "
    told += "to allow it: inv sandbox.update demo --allow pypi.org"
    assert (failed.returncode, failed.stderr.decode()) == (56, f"{told}\n")
    assert (worked.returncode, worked.stderr, "sandbox.get" in asked) == (0, b"", False)


def test_output_is_passed_through_as_it_is_and_the_exit_code_is_the_commands(place):
    with stand_in(place.endpoint(), ends((STDOUT, EVERY), (STDERR, EVERY[::-1]), code=42)) as server:
        done = run(place, "--env", "A=b=c", "--cwd", "code", "--timeout", "2.5", "--", "sh", "-c", "a  b", "--help")
        method, params = server.calls[0]
    assert (done.returncode, done.stdout, done.stderr) == (42, EVERY, EVERY[::-1])
    assert (method, bool(params.pop("request_id"))) == ("job.start", True)
    assert params == {
        "workspace": "demo", "argv": ["sh", "-c", "a  b", "--help"], "cwd": "code", "env": {"A": "b=c"},
        "timeout_s": 2.5, "stdin": "stream", "ends_with_stream": True,
    }  # fmt: skip


def test_output_comes_as_it_is_written_and_in_order(place):
    go_on = threading.Event()

    def play(frames: Frames) -> None:
        for number in range(100):
            frames.send((STDOUT, STDERR)[number % 2], b"%d\n" % number)
        assert go_on.wait(PATIENCE_S)
        frames.end(0)

    with stand_in(place.endpoint(), play):
        command = [*EXEC, "--", "make"]
        with subprocess.Popen(
            command, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT
        ) as done:
            lines = [int(done.stdout.readline()) for _ in range(100)]
            go_on.set()
            assert done.wait(PATIENCE_S) == 0
    assert lines == list(range(100))


def test_piped_input_is_passed_on_to_its_end(place, tmp_path):
    got = []

    def play(frames: Frames) -> None:
        got.append(frames.receive_input())
        frames.end(0)

    (tmp_path / "blob").write_bytes(EVERY * 1000)
    with stand_in(place.endpoint(), play, play, play):
        assert run(place, "--", "cat", stdin=None, input=EVERY).returncode == 0
        assert run(place, "--stdin", str(tmp_path / "blob"), "--", "cat").returncode == 0
        assert run(place, "--", "cat").returncode == 0  # of /dev/null: an end at once
    assert got == [EVERY, EVERY * 1000, b""]


def test_an_input_that_cannot_be_read_is_told(place):
    dropped = threading.Event()

    def play(frames: Frames) -> None:
        frames.await_drop()
        dropped.set()

    ours, theirs = socket.socketpair()
    ours.send(b"never read")
    theirs.close()
    with stand_in(place.endpoint(), play, ends()) as server:
        named = run(place, "--stdin", "/etc", "--", "cat")
        assert (named.returncode, server.calls) == (1, [])
        with ours:
            reset = run(place, "--", "cat", stdin=ours)
        assert dropped.wait(PATIENCE_S)
        with open("/dev/null", "w") as as_of_nohup:
            assert run(place, "--", "cat", stdin=as_of_nohup).returncode == 0
    assert named.stderr.startswith(b"error: --stdin: /etc is a directory\n")
    assert (reset.returncode, reset.stderr) == (1, b"error: standard input: Connection reset by peer\n")


def test_no_stdin_leaves_the_input_to_others(place):
    with stand_in(place.endpoint(), ends(), ends()) as server:
        loop = f"while read word; do {INV} workspace.exec demo --no-stdin -- echo $word; done"
        done = run(place, where=("sh", "-c", loop), stdin=None, input=b"one\ntwo\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [(params["argv"], "stdin" in params) for _, params in server.calls] == [
        (["echo", "one"], False), (["echo", "two"], False)
    ]  # fmt: skip


def test_an_input_that_never_ends_does_not_hold_up_the_end(place):
    reading, writing = os.pipe()
    with stand_in(place.endpoint(), ends((STDOUT, b"done"), code=7)):
        done = run(place, "--", "true", stdin=reading)
    os.close(reading)
    os.close(writing)
    assert (done.returncode, done.stdout) == (7, b"done")


def test_what_never_ran_is_ours(place):
    refusal = {"error": {"code": 1001, "message": "no workspace 'demo' on this node", "data": {"kind": "not_found"}}}
    with stand_in(place.endpoint(), job_start=refusal):
        unknown = run(place, "--", "true")
    limit = {"code": 1008, "message": "200 jobs run", "data": {"kind": "limit", "hint": "inv job.list demo"}}
    with stand_in(place.endpoint(), lambda frames: frames.send(REFUSAL, limit)):
        refused = run(place, "--", "true")
    assert (unknown.returncode, unknown.stderr) == (3, b"error: no workspace 'demo' on this node\n")
    assert (refused.returncode, refused.stderr) == (6, b"error: 200 jobs run\nhint: inv job.list demo\n")


def test_a_cut_connection_says_so_and_ends_with_5(place):
    with stand_in(place.endpoint(), lambda frames: frames.send(STDOUT, b"half")):
        done = run(place, "--", "sh", "-c", "make all")
    assert (done.returncode, done.stdout) == (5, b"half")
    assert done.stderr.splitlines() == [
        b"error: web1: the connection ended before the command did; it is ended there, with all it started",
        b"hint: a job goes on without a connection: inv job.start demo -- sh -c 'make all'",
    ]


@pytest.mark.parametrize("killed_by", ["timeout", "memory"])
def test_what_ended_it_is_said(place, killed_by):
    with stand_in(place.endpoint(), ends(code=137, killed_by=killed_by, signal="SIGKILL")):
        done = run(place, "--", "yes")
    assert (done.returncode, done.stderr) == (137, f"warning: ended by the {killed_by} limit after 0.5 s\n".encode())


def test_a_directory_that_is_not_there_is_no_such_name(place):
    missing = ends((STDERR, b"/w/demo/nope: No such file or directory\n"), code=2, duration_s=0.0)
    with stand_in(place.endpoint(), missing, ends(code=2, duration_s=0.001), missing):
        done = run(place, "--cwd", "nope", "--", "true")
        assert run(place, "--cwd", "data", "--", "grep", "x", "y").returncode == 2
        assert run(place, "--", "true").returncode == 2
    said = b"/w/demo/nope: No such file or directory\nerror: --cwd: nope is no directory that can be entered there\n"
    assert (done.returncode, done.stderr) == (3, said)


def test_a_line_for_a_shell_is_told_that_there_is_none(place):
    no = ends((STDERR, b"ls | head: not found\n"), code=127)
    with stand_in(place.endpoint(), no, no, no):
        line = run(place, "--node", "web1", "--", "ls | head")
        word, words = run(place, "--", "nosuch"), run(place, "--", "ls", "| head")
    hint = b"hint: there is no shell: inv workspace.exec --node web1 demo -- sh -c 'ls | head'\n"
    assert (line.returncode, line.stderr) == (127, b"ls | head: not found\n" + hint)
    assert b"hint" not in word.stderr + words.stderr


def test_json_and_a_terminal_exclude_each_other(place):
    done = run(place, "--json", "--tty", "--", "top")
    said = json.loads(done.stderr)["error"]
    assert (done.returncode, said["problem"], said["exit_code"]) == (1, "--json and --tty exclude each other", 1)


def test_a_reader_that_has_seen_enough_ends_it_quietly(place):
    dropped = threading.Event()

    def play(frames: Frames) -> None:
        try:
            while True:
                frames.send(STDOUT, b"y\n" * 1000)
        except ConnectionError:
            dropped.set()

    with stand_in(place.endpoint(), play):
        script = f"{INV} workspace.exec demo -- yes | head -1; echo ${{PIPESTATUS[0]}}"
        done = run(place, where=("bash", "-c", script))
        assert dropped.wait(PATIENCE_S)
    assert (done.stdout, done.stderr) == (b"y\n141\n", b"")


def test_an_output_that_cannot_be_written_is_an_error(place):
    with stand_in(place.endpoint(), ends((STDOUT, b"x"))):
        done = run(place, where=("sh", "-c", f"{INV} workspace.exec demo -- make >/dev/full"))
    assert (done.returncode, done.stderr) == (
        1, b"error: cannot write the result: No space left on device\nhint: df -h /dev/full\n"
    )  # fmt: skip


def test_ctrl_c_goes_to_the_command_and_a_second_one_ends_it(place):
    came, dropped = threading.Event(), threading.Event()

    def obeys(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\n")
        assert [frame for frame in iter(frames.receive, (SIGNAL, b"SIGINT")) if frame[0] != INPUT] == []
        frames.end(130, signal="SIGINT", state="killed")

    def ignores(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\n")
        while frames.receive() != (SIGNAL, b"SIGINT"):
            pass
        came.set()
        frames.await_drop()
        dropped.set()

    with stand_in(place.endpoint(), obeys, ignores):
        with start(place) as done:
            done.stdout.readline()
            done.send_signal(signal.SIGINT)
            assert (done.wait(PATIENCE_S), done.stderr.read()) == (130, b"")
        with start(place) as done:
            done.stdout.readline()
            done.send_signal(signal.SIGINT)
            assert came.wait(PATIENCE_S)
            done.send_signal(signal.SIGINT)
            assert done.wait(PATIENCE_S) == 2
            assert done.stderr.read() == b"error: cancelled: the command there is ended, with all it started\n"
            assert dropped.wait(PATIENCE_S)


def test_the_way_of_a_stream_imports_nothing_heavy(place):
    with stand_in(place.endpoint(), ends()):
        done = run(place, "--", "true", where=(sys.executable, "-X", "importtime", *EXEC))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "codesmith.workspace.console" in imported
    assert not {name for name in imported if name.startswith((*HEAVY, "codesmith.ssh", "codesmith.tunnel.control"))}


def test_a_python_caller_gets_how_it_ended(place, capfd):
    from invoke.context import Context

    from codesmith.sdk.ended import Ended
    from codesmith.tasks import workspace

    with stand_in(place.endpoint(), ends((STDOUT, b"out"), (STDERR, b"err"), code=3)):
        ended = workspace.exec_(Context(), "demo", ["make"], no_stdin=True)
    assert ended == Ended(3, duration_s=0.5)
    assert capfd.readouterr() == ("out", "err")
