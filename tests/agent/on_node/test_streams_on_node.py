"""Commands and jobs through the whole way: `inv`, forwarder, agent, runtime, on a real node."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import codesmith
from codesmith.sdk.api import Tty
from tests.agent.on_node.terminal import Terminal
from tests.agent.on_node.web1 import Web1
from tests.person import BIN, TOP
from tests.releases import BOOKWORM_FIRST
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
MIB = 1 << 20
NAME = "work"
EXEC = ("workspace.exec", NAME, "--node", "web1")
# What a dropped stream may take to end its command there.
ENDS_WITHIN_S = 10.0
PATIENCE_S = 120


@pytest.fixture(scope="module", autouse=True)
def _workspace(web1: Web1) -> None:
    web1.client.workspace.create(name=NAME)


def start(web1: Web1, *words: str, **options: object) -> subprocess.Popen[bytes]:
    settings = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1, "bufsize": 0, **options}
    return subprocess.Popen([str(BIN / "inv"), *words], cwd=TOP, env=web1.person.environment, **settings)


def run(web1: Web1, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(BIN / "inv"), *words], cwd=TOP, env=web1.person.environment, input=stdin, capture_output=True,
        timeout=PATIENCE_S,
    )  # fmt: skip


def at_terminal(web1: Web1, *words: str) -> Terminal:
    environment = {**web1.person.environment, "TERM": "xterm-256color"}
    return Terminal([str(BIN / "inv"), *words], environment, rows=30, columns=100)


def ended(web1: Web1, word: str) -> Callable[[], bool]:
    """Return whether no process there has this word in its command line."""
    return lambda: not web1.on(f"pgrep -f '[{word[0]}]{word[1:]}'", check=False).out


def test_outputs_stay_apart_and_each_keeps_its_order(web1: Web1) -> None:
    """Of two pipes nobody can tell which was written to first; a terminal is one."""
    script = "import os; [os.write(1 + n % 2, b'%d\\n' % n) for n in range(2000)]"
    apart = web1.person.runs(f'inv {" ".join(EXEC)} -- python3 -c "{script}"')
    assert [int(line) for line in apart.out.split()] == list(range(0, 2000, 2))
    assert [int(line) for line in apart.err.split()] == list(range(1, 2000, 2))
    merged = web1.person.runs(f'inv {" ".join(EXEC)} --tty -- python3 -c "{script}"')
    assert [int(line) for line in merged.out.split()] == list(range(2000))
    script = "import os, time; [(os.write(1 + n % 2, b'%d\\n' % n), time.sleep(0.1)) for n in range(10)]"
    slowly = web1.person.runs(f'inv {" ".join(EXEC)} -- python3 -c "{script}" 2>&1')
    assert [int(line) for line in slowly.out.split()] == list(range(10))


def test_50_mb_go_in_and_come_out_whole(web1: Web1, tmp_path: Path) -> None:
    blob = os.urandom(50_000_000)
    (tmp_path / "blob").write_bytes(blob)
    with (tmp_path / "blob").open("rb") as source, (tmp_path / "back").open("wb") as target:
        with start(web1, *EXEC, "--", "tee", "data/blob", stdin=source, stdout=target) as running:
            assert running.wait(PATIENCE_S) == 0
    assert (tmp_path / "back").read_bytes() == blob
    there = web1.on(f"sha256sum /srv/codesmith/workspaces/{NAME}/data/blob").out.split()[0]
    assert there == hashlib.sha256(blob).hexdigest()


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("no-such-program", 127), ("exit 255", 255)],
)
def test_the_exit_code_is_that_of_the_command(web1: Web1, script: str, code: int) -> None:
    assert run(web1, *EXEC, "--", "sh", "-c", script).returncode == code


def test_a_limit_of_time_is_told(web1: Web1) -> None:
    done = run(web1, *EXEC, "--timeout", "0.5", "--", "sleep", "60")
    assert done.returncode != 0
    assert done.stderr.startswith(b"warning: ended by the timeout limit after 0.")


def test_the_input_is_passed_on_to_its_end(web1: Web1) -> None:
    every = bytes(range(256))
    assert run(web1, *EXEC, "--", "cat", stdin=every).stdout == every
    assert run(web1, *EXEC, "--", "wc", "-c").stdout == b"0\n"
    assert run(web1, *EXEC, "--no-stdin", "--", "wc", "-c", stdin=every).stdout == b"0\n"


def test_a_terminal_has_a_size_a_type_and_ctrl_c(web1: Web1) -> None:
    with at_terminal(web1, *EXEC, "--", "bash", "--norc") as terminal:
        before = terminal.mode()
        terminal.wait_for(r"\$ ")
        terminal.types("tty; stty size; echo $TERM\r")
        terminal.wait_for(r"/dev/pts/\d+\r\n30 100\r\nxterm-256color\r\n")
        terminal.resize(41, 123)
        terminal.types("until stty size | grep '41 123'; do sleep 0.1; done\r")
        terminal.wait_for("41 123\r\n")
        terminal.types("sleep 1000; echo after-$?\r")
        eventually(lambda: not ended(web1, "sleep 1000")())
        terminal.types("\x03")
        terminal.wait_for(r"\^C")
        terminal.types("exit 9\r")
        assert terminal.wait_for_end() == 9
        assert terminal.mode() == before


def test_ctrl_c_without_a_terminal_is_sigint_there(web1: Web1) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    with start(web1, *EXEC, "--", "bash", "-c", script) as running:
        assert running.stdout and running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 5
        assert running.stdout.read() == b"caught\n"


def test_a_second_ctrl_c_ends_what_ignores_the_first(web1: Web1) -> None:
    with start(
        web1, *EXEC, "--", "bash", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 0.321; done"
    ) as running:
        assert running.stdout and running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == b"no\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 2
    eventually(ended(web1, "sleep 0.321"), within_s=ENDS_WITHIN_S)


def test_a_closed_pipe_ends_it_there(web1: Web1) -> None:
    command = f"inv {' '.join(EXEC)} -- sh -c 'yes abcdefgh' | head -1; echo ${{PIPESTATUS[0]}}"
    said = web1.person.runs(command)
    assert (said.out, said.err) == ("abcdefgh\n141\n", "")
    eventually(ended(web1, "yes abcdefgh"), within_s=ENDS_WITHIN_S)


def test_a_killed_client_ends_it_there_with_all_it_started(web1: Web1) -> None:
    with start(web1, *EXEC, "--", "sh", "-c", "setsid sleep 54321 & echo ready; sleep 54321") as running:
        assert running.stdout and running.stdout.readline() == b"ready\n"
        running.kill()
    eventually(ended(web1, "sleep 54321"), within_s=ENDS_WITHIN_S)


def test_a_killed_forwarder_ends_exec_there_and_a_job_goes_on(web1: Web1) -> None:
    """Only one is bound to its connection; who follows the other reads on, and misses nothing."""
    some = "for n in $(seq {} {}); do echo line $n; done; "
    lines = f"{some.format(1, 20)} until test -e data/enough; do sleep 0.1; done; {some.format(21, 40)} exit 7"
    job = web1.client.job.start(workspace=NAME, argv=["bash", "-c", lines])
    with (
        start(web1, "job.logs", NAME, job.id, "--follow", "--node", "web1") as following,
        start(web1, *EXEC, "--", "sh", "-c", "echo ready; sleep 65432") as running,
    ):
        assert running.stdout and running.stdout.readline() == b"ready\n"
        assert following.stdout and following.stdout.readline() == b"line 1\n"
        os.kill(int((web1.person.home / "run" / "forwarder.lock").read_text()), signal.SIGKILL)
        assert running.wait(PATIENCE_S) == 5
        eventually(ended(web1, "sleep 65432"), within_s=ENDS_WITHIN_S)
        web1.on(f"touch /srv/codesmith/workspaces/{NAME}/data/enough")
        out, err = following.communicate(timeout=PATIENCE_S)
    assert out.decode().splitlines() == [f"line {number}" for number in range(2, 41)]
    assert (following.returncode, b"connecting again" in err) == (7, True)


def test_a_job_is_worked_with_from_the_command_line(web1: Web1) -> None:
    on = ("--node", "web1")
    started = run(
        web1, "job.start", NAME, "--name", "build", *on, "--json", "--", "sh", "-c", "seq 1 5; echo e >&2; exit 4"
    )
    job = json.loads(started.stdout)
    assert (job["name"], job["state"]) == ("build", "running")
    assert run(web1, "job.wait", NAME, job["id"], *on).returncode == 4
    assert run(web1, "job.logs", NAME, job["id"], *on).stdout == b"1\n2\n3\n4\n5\ne\n"
    assert run(web1, "job.logs", NAME, job["id"], *on, "--stream", "stdout", "--tail", "2").stdout == b"4\n5\n"
    assert run(web1, "job.logs", NAME, job["id"], *on, "--offset", "8", "--follow").stdout == b"5\ne\n"
    assert job["id"].encode() in run(web1, "job.list", NAME, *on, "--state", "exited").stdout
    assert run(web1, "job.delete", NAME, job["id"], "--yes", *on).returncode == 0
    assert run(web1, "job.get", NAME, job["id"], *on).returncode == 3


def test_what_cannot_start_is_told(web1: Web1) -> None:
    done = run(web1, *EXEC, "--cwd", "nope", "--", "true")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last) == (3, b"error: --cwd: nope is no directory that can be entered there")
    assert run(web1, *EXEC, "--cwd", "data", "--", "sh", "-c", "exit 2").returncode == 2
    begun = run(web1, "job.start", NAME, "--node", "web1", "--name", "typo", "--", "nosuch")
    said = begun.stderr.splitlines()
    assert (begun.returncode, said[0], said[1][16:]) == (127, b"nosuch: not found", b" has ended with exit code 127")
    assert run(web1, "job.logs", NAME, "typo", "--node", "web1").stdout == b"nosuch: not found\n"


def test_a_job_is_followed_from_its_start_and_stopped(web1: Web1) -> None:
    on = ("--node", "web1")
    done = run(web1, "job.start", NAME, "--follow", *on, "--", "sh", "-c", "echo out; echo err >&2; exit 6")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (6, b"out\n", b"err")
    job = web1.client.job.start(workspace=NAME, argv=["sh", "-c", "echo ready; sleep 76543"])
    with start(web1, "job.logs", NAME, job.id, "--follow", *on) as following:
        assert following.stdout and following.stdout.readline() == b"ready\n"
        assert run(web1, "job.stop", NAME, job.id, *on).returncode == 0
        assert following.wait(PATIENCE_S) == 143
        assert following.stderr and following.stderr.read().startswith(b"warning: ended by an operator")
    assert ended(web1, "sleep 76543")()


def test_a_command_says_that_its_workspace_was_stopped(web1: Web1) -> None:
    name = "halted"
    web1.client.workspace.create(name=name)
    with start(web1, "workspace.exec", name, "--node", "web1", "--", "sh", "-c", "echo ready; sleep 87654") as running:
        assert running.stdout and running.stdout.readline() == b"ready\n"
        assert run(web1, "workspace.stop", name, "--node", "web1").returncode == 0
        assert running.stderr
        said = running.stderr.read()
        assert (running.wait(PATIENCE_S), said[:29]) == (137, b"warning: ended by an operator"), said


def test_a_person_joins_a_job_leaves_it_and_joins_again(web1: Web1) -> None:
    job = web1.client.job.start(
        workspace=NAME, argv=["bash", "--norc"], stdin="stream", tty=Tty(rows=24, cols=80, term="xterm")
    )
    attach = ("job.attach", NAME, job.id, "--node", "web1")
    with at_terminal(web1, *attach) as terminal:
        terminal.wait_for("to leave it running: Enter ~ ")
        terminal.types("x=kept; until stty size | grep 100; do :; done\r")  # the size comes beside what is typed
        terminal.wait_for("30 100\r\n")
        terminal.types("\r~.")
        terminal.wait_for("detached: ")
        assert terminal.wait_for_end() == 0
    with at_terminal(web1, *attach, "--offset", "0") as terminal:
        terminal.wait_for("stty size")
        terminal.types("echo $x; exit 8\r")
        terminal.wait_for(r"\rkept\r\n")
        assert terminal.wait_for_end() == 8


@pytest.mark.parametrize("kind", ["--tty", "--keep-stdin"])
def test_who_looks_at_a_job_and_goes_leaves_it_running(web1: Web1, kind: str) -> None:
    on = ("--node", "web1")
    job = json.loads(run(web1, "job.start", NAME, kind, "--json", *on, "--", "bash", "--norc").stdout)["id"]
    for words in (("job.logs", NAME, job, "--follow", *on), ("job.attach", NAME, job, "--no-stdin", *on)):
        for number in (signal.SIGTERM, signal.SIGKILL):
            attached = attachments(web1, job)
            with start(web1, *words) as looking:
                eventually(lambda before=attached: attachments(web1, job) > before, within_s=PATIENCE_S)
                looking.send_signal(number)
    typing = web1.client.attach(NAME, job)
    with typing:
        typing.write(b"exit 9\n")
        assert typing.result().exit_code == 9


def attachments(web1: Web1, job: str) -> int:
    """Return how often somebody has attached to a job."""
    return sum(one.method == "job.attach" and one.target.get("id") == job for one in web1.client.audit.list(limit=100))


def test_a_stream_goes_over_a_port(web1: Web1) -> None:
    entry = web1.person.lab_entry("web1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    web1.person.write_registry({"web1": {**entry, "endpoint": f"tcp:{port}"}})
    try:
        (row,) = web1.person.runs("inv node.connect --node web1 --json").json
        with codesmith.connect(url=f"http://127.0.0.1:{port}", token_file=row["token_file"]) as client:
            with client.run(NAME, ["sh", "-c", "cat; exit 2"], stdin=True) as running:
                running.write(b"over a port")
                running.end_input()
                assert (running.read(), running.result().exit_code) == ((b"over a port", b""), 2)
            with client.run(NAME, ["sleep", "76544"]):
                eventually(lambda: not ended(web1, "sleep 76544")(), within_s=PATIENCE_S)
            eventually(ended(web1, "sleep 76544"), within_s=ENDS_WITHIN_S)
    finally:
        web1.person.write_registry({"web1": entry})
        web1.person.runs("inv node.connect --node web1")
