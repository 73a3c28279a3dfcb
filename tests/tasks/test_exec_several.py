"""Real `inv` processes: `workspace.exec` in several workspaces at once, against stand-ins of two nodes."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading

import pytest

from codesmith.errors import Interruption
from codesmith.workspace import executions
from codesmith.workspace.console import Command
from codesmith.workspace.execution import Streams
from codesmith.workspace.prefixed_lines import PrefixedLines
from tests.agent.on_node.terminal import Terminal
from tests.sdk.stream_doubles import SIGNAL, STDERR, STDOUT, Frames, stand_in
from tests.tasks.conftest import INV, PATIENCE_S, TOP
from tests.tasks.exec_command import EXEC, EXECUTION, ends, interrupted_after, run
from tests.tasks.test_deletes import WORKSPACE

pytestmark = pytest.mark.slow

ALL = (INV, "workspace.exec")
MISSING = {"error": {"code": 1001, "message": "no workspace 'demo' on this node", "data": {"kind": "not_found"}}}
DONE = {**EXECUTION, "stdout": "hi\n"}


@pytest.fixture
def two(place):
    place.write("nodes: {web1: {host: a.invalid, tags: [eu]}, web2: {host: b.invalid, tags: [eu]}}\n")
    return place


def workspaces(*names, **fields):
    return [{**WORKSPACE, "name": name, **fields} for name in names]


def test_the_workspace_of_that_name_on_each_node(two):
    with (
        stand_in(two.endpoint("web1"), ends((STDOUT, b"one\n"), (STDERR, b"careful\n"))) as one,
        stand_in(two.endpoint("web2"), ends((STDOUT, b"two"), code=3, duration_s=0.4)) as other,
    ):
        done = run(two, "--tag", "eu", "--cwd", "code", "--", "make", "--all")
    assert done.returncode == 3
    assert sorted(done.stdout.splitlines()) == [b"web1/demo: one", b"web2/demo: two"]
    assert done.stderr.splitlines() == [
        b"web1/demo: careful",
        b"1 of 2 ended with 0",
        b"  web2/demo: exit code 3, after 0.4 s",
    ]
    for server in (one, other):
        ((method, params),) = server.calls
        assert (method, params["workspace"], params["argv"], params["cwd"]) == (
            "job.start",
            "demo",
            ["make", "--all"],
            "code",
        )
        assert "stdin" not in params


def test_without_a_name_every_workspace_that_is_ready(two):
    listed = workspaces("api", "shop") + workspaces("new", state="pending")
    for words, asked in ((("--all",), {}), (("--label", "team=red", "--all"), {"labels": {"team": "red"}})):
        with (
            stand_in(two.endpoint("web1"), ends(), ends(), workspace_list=listed) as one,
            stand_in(two.endpoint("web2"), ends(), workspace_list=workspaces("web")) as other,
        ):
            done = run(two, *words, "--", "true", where=ALL)
        assert (done.returncode, done.stderr) == (0, b"3 of 3 ended with 0\n")
        assert one.calls[0] == ("workspace.list", asked)
        started = [params["workspace"] for server in (one, other) for _, params in server.calls[1:]]
        assert sorted(started) == ["api", "shop", "web"]
    with stand_in(two.endpoint("web2"), ends(), workspace_list=workspaces("web")):
        assert run(two, "--all", "--node", "web2", "--", "true", where=ALL).stderr == b"1 of 1 ended with 0\n"


def test_lines_are_never_mixed(two):
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def play(frames: Frames) -> None:
        for _ in range(50):
            frames.send(STDOUT, b"a" * 1000)
            both.wait()
            frames.send(STDOUT, b"z" * 1000 + b"\nend")
        frames.end(0)

    with stand_in(two.endpoint("web1"), play), stand_in(two.endpoint("web2"), play):
        done = run(two, "--all", "--", "make")
    whole = re.compile(rb"web[12]/demo: (end)?(a{1000}z{1000})?")
    lines = done.stdout.splitlines()
    assert len(lines) == 102
    assert [line for line in lines if not whole.fullmatch(line)] == []


def test_a_line_without_an_end_is_cut(two):
    with (
        stand_in(two.endpoint("web1"), ends(*[(STDOUT, b"x" * (256 << 10))] * 5)),
        stand_in(two.endpoint("web2"), ends()),
    ):
        done = run(two, "--all", "--", "yes")
    assert [len(line) for line in done.stdout.splitlines()] == [11 + (1 << 20), 11 + (256 << 10)]


def test_a_terminal_gets_no_control_characters(two):
    with (
        stand_in(two.endpoint("web1"), ends((STDOUT, b"10%\r20%\r\n\x1b]0;x\x07\xff\n"))),
        stand_in(two.endpoint("web2"), ends()),
        Terminal([*EXEC, "--all", "--", "make"], two.environment, rows=20, columns=100) as terminal,
    ):
        terminal.wait_for("web1/demo: 20%\r\n")
        terminal.wait_for(re.escape("web1/demo: \\x1b]0;x\\x07\ufffd"))
        assert terminal.wait_for_end() == 0


def test_each_reads_the_same_file_and_nothing_otherwise(two, tmp_path):
    got = []

    def play(frames: Frames) -> None:
        got.append(frames.receive_input())
        frames.end(0)

    (tmp_path / "blob").write_bytes(b"x\0" * 100_000)
    with stand_in(two.endpoint("web1"), play) as one, stand_in(two.endpoint("web2"), play):
        assert run(two, "--all", "--stdin", str(tmp_path / "blob"), "--", "cat").returncode == 0
    assert one.calls[0][1]["stdin"] == "stream"
    with stand_in(two.endpoint("web1"), play), stand_in(two.endpoint("web2"), play):
        assert run(two, "--all", "--stdin", "-", "--", "cat", stdin=None, input=b"piped").returncode == 0
    assert got == [b"x\0" * 100_000] * 2 + [b"piped"] * 2


def test_what_reads_nothing_of_its_input_still_ends(two, tmp_path):
    is_over = threading.Event()

    def play(frames: Frames) -> None:  # its connection stays open, and full
        frames.end(0)
        assert is_over.wait(PATIENCE_S)

    (tmp_path / "blob").write_bytes(b"x" * (16 << 20))
    with stand_in(two.endpoint("web1"), play), stand_in(two.endpoint("web2"), play):
        assert run(two, "--all", "--stdin", str(tmp_path / "blob"), "--", "true").returncode == 0
        is_over.set()


def test_json_is_one_list(two):
    with (
        stand_in(two.endpoint("web1"), workspace_exec=DONE) as one,
        stand_in(two.endpoint("web2"), workspace_exec={**DONE, "exit_code": 4}),
    ):
        done = run(two, "--all", "--json", "--timeout", "5", "--", "echo", "hi")
        rows = json.loads(done.stdout)
    assert [(row["node"], row["workspace"], row["exit_code"], row["stdout"]) for row in rows] == [
        ("web1", "demo", 0, "hi\n"), ("web2", "demo", 4, "hi\n")
    ]  # fmt: skip
    assert (done.returncode, one.calls[0][1]["timeout_s"]) == (4, 5)


def test_a_node_that_fails_stops_no_other(two):
    damaged = {"error": {"code": 1009, "message": "damaged", "data": {"kind": "read_only"}}}
    with (
        stand_in(two.endpoint("web1"), job_start=damaged, workspace_list=damaged),
        stand_in(
            two.endpoint("web2"),
            ends((STDOUT, b"x\n")),
            ends((STDOUT, b"x\n"), code=1),
            workspace_list=workspaces("demo"),
        ),
    ):
        named, all_ = run(two, "--all", "--", "true"), run(two, "--all", "--", "true", where=ALL)
    assert (named.returncode, named.stdout) == (6, b"web2/demo: x\n")
    assert named.stderr == b"1 of 2 ended with 0\n  web1/demo: error: damaged\n"
    assert (all_.returncode, all_.stdout) == (1, b"web2/demo: x\n")
    assert all_.stderr.splitlines()[1:] == [b"  web1: error: damaged", b"  web2/demo: exit code 1, after 0.5 s"]


def test_a_node_without_the_workspace_is_left_out_unless_it_was_named(two):
    def serve(**web2):
        stack = contextlib.ExitStack()
        stack.enter_context(stand_in(two.endpoint("web1"), job_start=MISSING))
        stack.enter_context(stand_in(two.endpoint("web2"), ends(), **web2))
        return stack

    with serve():
        left_out = run(two, "--all", "--", "true")
    with serve():
        named = run(two, "--node", "web1", "--node", "web2", "--", "true")
    with serve(job_start=MISSING):
        nowhere = run(two, "--tag", "eu", "--", "true")
    assert (left_out.returncode, left_out.stderr) == (0, b"note: no workspace 'demo' on web1\n1 of 1 ended with 0\n")
    assert (named.returncode, named.stderr.splitlines()[1]) == (
        3, b"  web1/demo: error: no workspace 'demo' on this node"
    )  # fmt: skip
    assert nowhere.returncode == 3
    assert nowhere.stderr.startswith(
        b"error: no workspace 'demo' on any of the 2 nodes\nhint: inv workspace.list --all"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "workspace.exec needs the NAME of a workspace, --all or --label"),
        (("--node", "web1"), "workspace.exec needs the NAME of a workspace, --all or --label"),
        (("demo", "--all", "--tty"), "several commands have no terminal"),
        (("demo", "--label", "a=b"), "--label chooses workspaces, and the name has chosen one"),
    ],
)
def test_what_chooses_nothing_runs_nothing(two, words, said):
    with stand_in(two.endpoint("web1")) as one:
        done = run(two, *words, "--", "rm", "-rf", ".", where=ALL)
    assert (done.returncode, one.calls) == (1, [])
    assert done.stderr.decode().startswith(f"error: {said}")


def test_a_line_for_a_shell_is_told_that_there_is_none_of_all(two):
    with stand_in(two.endpoint("web1"), ends(code=127)), stand_in(two.endpoint("web2"), ends(code=127)):
        done = run(two, "--all", "--", "ls | wc")
    assert done.stderr.splitlines()[-1] == b"hint: there is no shell: ... -- sh -c 'ls | wc'"


def test_no_workspace_at_all_ends_with_3(two):
    with stand_in(two.endpoint("web1")), stand_in(two.endpoint("web2")):
        done = run(two, "--all", "--label", "a=b", "--", "true", where=ALL)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, b"error: no workspace with a=b on web1, web2")


def test_ctrl_c_goes_to_all_and_a_second_one_ends_them(two):
    came, dropped = threading.Barrier(3, timeout=PATIENCE_S), threading.Barrier(3, timeout=PATIENCE_S)

    def obeys(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\n")
        assert frames.receive() == (SIGNAL, b"SIGINT")
        frames.end(130, signal="SIGINT", state="killed")

    def ignores(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\n")
        assert frames.receive() == (SIGNAL, b"SIGINT")
        came.wait()
        frames.await_drop()
        dropped.wait()

    def start():
        argv = [*EXEC, "--all", "--", "make"]
        return subprocess.Popen(argv, cwd=TOP, env=two.environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1)

    with stand_in(two.endpoint("web1"), obeys, ignores), stand_in(two.endpoint("web2"), obeys, ignores):
        with start() as done:
            assert [done.stdout.readline() for _ in range(2)]
            done.send_signal(signal.SIGINT)
            assert done.wait(PATIENCE_S) == 2
            assert b"error: cancelled: 2 of 2 commands have ended" in done.stderr.read()
        with start() as done:
            assert [done.stdout.readline() for _ in range(2)]
            done.send_signal(signal.SIGINT)
            came.wait()
            done.send_signal(signal.SIGINT)
            assert done.wait(PATIENCE_S) == 2
            assert b"error: cancelled: the commands there are ended, with all they started" in done.stderr.read()
            dropped.wait()


@pytest.mark.parametrize("started", [0, 1])
def test_ctrl_c_while_the_commands_are_started_needs_no_second_one(two, monkeypatch, capsys, started):
    is_there = threading.Event()

    class Lines(PrefixedLines):
        def write(self, name, data):
            super().write(name, data)
            is_there.set()

    def obeys(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\n")
        assert frames.receive() == (SIGNAL, b"SIGINT")
        frames.end(130, signal="SIGINT", state="killed")

    monkeypatch.setattr(executions, "PrefixedLines", Lines)
    monkeypatch.setattr(executions, "threading", interrupted_after(started, is_there))
    said = f"{started} of 2 commands have ended, the others were not started"
    with stand_in(two.endpoint("web1"), *[obeys] * started), pytest.raises(Interruption, match=said):
        executions.run({"node": ["web1", "web2"]}, Command("demo", ["make"]), Streams())
    assert ("Ctrl-C goes to" in capsys.readouterr().err) is bool(started)


def test_ctrl_c_of_json_says_what_goes_on(two):
    asked, go_on = threading.Event(), threading.Event()

    def waits(_):
        asked.set()
        assert go_on.wait(PATIENCE_S)
        return DONE

    argv = [*EXEC, "--all", "--jobs", "1", "--json", "--", "make"]
    with (
        stand_in(two.endpoint("web1"), workspace_exec=waits),
        stand_in(two.endpoint("web2"), workspace_exec=DONE) as other,
        subprocess.Popen(
            argv, cwd=TOP, env=two.environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1
        ) as done,
    ):  # fmt: skip
        assert asked.wait(PATIENCE_S)
        done.send_signal(signal.SIGINT)
        assert done.wait(PATIENCE_S) == 2
        go_on.set()
        problem = json.loads(done.stderr.read())["error"]["problem"]
    assert problem == "cancelled: 0 of 2 commands have ended; those go on: web1/demo"
    assert other.calls == []


def test_a_reader_that_has_seen_enough_ends_all_quietly(two):
    both, dropped = threading.Barrier(2, timeout=PATIENCE_S), threading.Barrier(3, timeout=PATIENCE_S)

    def play(frames: Frames) -> None:
        both.wait()  # the first output may end the command before it has asked the other node
        with contextlib.suppress(ConnectionError):
            while True:
                frames.send(STDOUT, b"y\n" * 1000)
        dropped.wait()

    with stand_in(two.endpoint("web1"), play), stand_in(two.endpoint("web2"), play):
        script = f"{INV} workspace.exec demo --all -- yes | head -1; echo ${{PIPESTATUS[0]}}"
        done = run(two, where=("bash", "-c", script))
        dropped.wait()
    assert (done.stdout.splitlines()[1:], done.stderr) == ([b"141"], b"")


def test_a_python_caller_gets_the_rows(two):
    code = (
        "from invoke.context import Context; from codesmith.tasks import workspace; "
        "rows = workspace.exec_(Context(), 'demo', ['true'], node=['web1', 'web2']); "
        "print([(row['node'], row['exit_code']) for row in rows], rows.exit_code)"
    )
    with stand_in(two.endpoint("web1"), ends()), stand_in(two.endpoint("web2"), ends(code=2)):
        done = run(two, where=(sys.executable, "-c", code))
    assert done.stdout.decode().strip() == "[('web1', 0), ('web2', 2)] 2"
