"""Processes in workspaces, of jobs and of sessions: what ends them, and what outlives what."""

from __future__ import annotations

import base64
import concurrent.futures
import os
from pathlib import Path

import pytest

from agent.shared.names import unit_of
from tests.agent.on_node.door_one import Door, alias
from tests.agent.on_node.door_two import Colleague, open_door
from tests.agent.on_node.terminal import Terminal
from tests.agent.on_node.web1 import Web1
from tests.releases import NEWEST_FIRST, TRIXIE_FIRST
from tests.waiting import accepts, eventually

pytestmark = pytest.mark.lab
ENDS_ITSELF = "codesmith-job start -- sh -c 'echo from $0; exit 4' "
# Fills the memory of its workspace.
HOG = "x = bytearray(1 << 30); x[::4096] = b'x' * len(x[::4096])"


@pytest.fixture(scope="module")
def only(web1: Web1, tmp_path_factory: pytest.TempPathFactory) -> Colleague:
    """A user who has a key, and one workspace under another name."""
    open_door(web1)
    found = Colleague(web1, tmp_path_factory.mktemp("keys"), "only")
    web1.client.user.create(name="only", ssh_keys=[found.key_line])
    web1.client.workspace.create(name="shop", user="only")
    web1.client.workspace.start(name="shop")
    found.let_in()
    return found


def logged(web1: Web1, workspace: str, job: str) -> str:
    piece = web1.client.job.logs(workspace=workspace, id=job)
    return piece.data if piece.encoding == "text" else base64.b64decode(piece.data).decode()


@NEWEST_FIRST
def test_codesmith_job_is_there_for_all_that_runs_inside(web1: Web1) -> None:
    client, door = web1.client, Door(web1)
    client.workspace.create(name="inner")
    client.sandbox.create(workspace="inner", network="none")
    started = {
        "exec": client.workspace.exec(name="inner", argv=["sh", "-c", ENDS_ITSELF + "exec"]).stdout.strip(),
        "ssh": door.ssh("inner", ENDS_ITSELF + "ssh").strip(),
    }
    for way, shell in (("login", ["bash -l"]), ("shell", [])):
        typed = f"{ENDS_ITSELF} {way}\nexit\n".encode()
        said = door.run("ssh", "-T", alias("inner"), *shell, typed=typed).stdout.decode()
        started[way] = said.strip().split("\n")[-1]
    outer = client.job.start(workspace="inner", argv=["sh", "-c", f"{ENDS_ITSELF} job"])
    assert client.job.wait(workspace="inner", id=outer.id).exit_code == 0
    started["job"] = logged(web1, "inner", outer.id).strip()
    for way, job in started.items():
        assert client.job.wait(workspace="inner", id=job).exit_code == 4, way
        assert logged(web1, "inner", job) == f"from {way}\n"
        assert client.job.get(workspace="inner", id=job).by is None
    said = door.ssh("inner", "codesmith-job list; codesmith-job --help")
    assert all(job in said for job in started.values())
    client.workspace.delete(name="inner")


@NEWEST_FIRST
def test_the_end_of_a_workspace_is_the_operators_for_its_jobs(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="ends")
    script = "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    job = client.job.start(workspace="ends", argv=["sh", "-c", script])
    web1.person.wait_until(lambda: logged(web1, "ends", job.id), within_s=20)
    assert client.workspace.stop(name="ends").runtime.state == "stopped"
    ended = client.job.get(workspace="ends", id=job.id)
    assert (ended.state, ended.killed_by) == ("killed", "operator")
    assert client.job.logs(workspace="ends", id=job.id, stream="stdout").data == "begun\nsaved\n"
    # Killed with its supervisor, as by a loss of power.
    job = client.job.start(workspace="ends", argv=["sh", "-c", "echo begun; sleep 1000"])
    web1.person.wait_until(lambda: logged(web1, "ends", job.id), within_s=20)
    web1.on(f"systemctl kill --signal=KILL {unit_of('ends', 'service')}")
    web1.person.wait_until(lambda: client.job.get(workspace="ends", id=job.id).state == "lost", within_s=20)
    assert logged(web1, "ends", job.id) == "begun\n"
    client.workspace.delete(name="ends")


@TRIXIE_FIRST
def test_a_job_that_takes_all_memory_is_told_so_and_others_go_on(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="full")
    client.sandbox.create(workspace="full", limits={"memory_bytes": 96 << 20})
    other = client.job.start(workspace="full", argv=["sleep", "1000"])
    job = client.job.start(workspace="full", argv=["python3", "-c", HOG])
    ended = client.job.wait(workspace="full", id=job.id)
    assert (ended.state, ended.exit_code, ended.signal, ended.killed_by) == ("killed", 137, "SIGKILL", "memory")
    assert client.job.get(workspace="full", id=other.id).state == "running"
    # A log that is written for long takes no memory of its own.
    flood = client.job.start(workspace="full", argv=["sh", "-c", "yes | head -c 300000000"])
    assert client.job.wait(workspace="full", id=flood.id).exit_code == 0
    stopped = client.job.stop(workspace="full", id=other.id)
    assert (stopped.state, stopped.signal) == ("killed", "SIGTERM")
    client.workspace.delete(name="full")


@TRIXIE_FIRST
def test_a_terminal_inside_is_one(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="tty")
    script = "tty; stty size; echo $TERM; test -t 2 && echo all; setsid true </dev/tty && echo controlling"
    tty = {"rows": 30, "cols": 100, "term": "xterm-256color"}
    job = client.job.start(workspace="tty", argv=["sh", "-c", script], tty=tty)
    assert client.job.wait(workspace="tty", id=job.id).exit_code == 0
    lines = logged(web1, "tty", job.id).split("\r\n")
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:] == ["30 100", "xterm-256color", "all", "controlling", ""]
    client.workspace.delete(name="tty")


@NEWEST_FIRST
def test_a_session_outlives_the_front_end(door: Door) -> None:
    with door.session("demo") as process:
        assert process.stdin and process.stdout
        before = door.web1.client.node.info().instance_id
        token = str(door.dial("demo")["token"])
        door.web1.on("systemctl restart codesmith-agent.service")
        assert door.web1.client.node.info().instance_id != before
        process.stdin.write(b"still there\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"still there\n"
        assert door.stream(token)[0] == 401


@NEWEST_FIRST
def test_many_sessions_share_one_connection(door: Door, short: Path) -> None:
    shared = ["-o", "ControlMaster=auto", "-S", f"{short}/s"]
    with door.running(*shared, "-N", alias("demo")):
        eventually(lambda: accepts(short / "s"), within_s=20)
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            said = list(pool.map(lambda n: door.run("ssh", *shared, alias("demo"), f"echo {n}").stdout, range(30)))
    assert said == [b"%d\n" % number for number in range(30)]


@NEWEST_FIRST
def test_a_killed_client_ends_its_sshd(door: Door) -> None:

    def sshds() -> set[str]:
        return set(door.web1.on("pgrep -u cs-demo sshd", check=False).out.split())

    before = sshds()
    with door.session("demo") as process:
        its_own = sshds() - before
        assert its_own
        process.kill()
        door.person.wait_until(lambda: not its_own & sshds(), within_s=20)


@NEWEST_FIRST
def test_what_was_started_in_the_background_stays(door: Door) -> None:
    door.ssh("demo", "nohup sleep 1234 >/dev/null 2>&1 </dev/null &")
    assert door.ssh("demo", "pgrep -x sleep -c") == "1\n"
    door.ssh("demo", "pkill -x sleep")


@NEWEST_FIRST
@pytest.mark.parametrize("change", ["workspace.stop", "user.disable", "workspace.assign", "workspace.delete"])
def test_a_change_of_who_may_enter_ends_the_session(door: Door, change: str) -> None:
    client, name = door.web1.client, f"ends-{change.split('.')[1]}"
    client.workspace.create(name=name)
    calls = {
        "workspace.stop": lambda: client.workspace.stop(name=name),
        "user.disable": lambda: client.user.disable(name=name),
        "workspace.assign": lambda: client.workspace.assign(name=name, user="demo"),
        "workspace.delete": lambda: client.workspace.delete(name=name),
    }
    with door.session(name) as process:
        token = str(door.dial(name)["token"])
        calls[change]()
        assert process.wait(20) == 255
    enters = change in ("workspace.stop", "workspace.assign")
    assert door.stream(token)[0] == (101 if change == "workspace.stop" else 401 if change != "user.disable" else 503)
    door.ssh(name, "true", code=0 if enters else 255)


@NEWEST_FIRST
def test_a_terminal_that_goes_away_ends_what_ran_in_it(only: Colleague, web1: Web1) -> None:
    with Terminal(only.argv("ssh", "-tt", "node"), dict(os.environ), rows=24, columns=80) as terminal:
        terminal.types("sleep 4321 & sleep 1234\r")
        eventually(lambda: len(web1.pids("cs-shop", "sleep")) == 2)
        terminal.process.kill()
        eventually(lambda: not web1.pids("cs-shop", "sleep"), within_s=20)
    eventually(lambda: not web1.on("pgrep -u cs-only", check=False).out, within_s=20)


@NEWEST_FIRST
def test_a_client_that_goes_away_ends_what_it_started(only: Colleague, web1: Web1) -> None:
    with only.running("node", "setsid sleep 1234 & echo up; exec sleep 4321") as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        process.kill()
        eventually(lambda: not web1.pids("cs-shop", "sleep"), within_s=20)
    eventually(lambda: not web1.on("pgrep -u cs-only", check=False).out, within_s=20)


@NEWEST_FIRST
def test_who_does_not_read_holds_up_the_command(only: Colleague, web1: Web1) -> None:
    """What it writes is kept nowhere: `yes` has not written much when nobody reads, and goes on when somebody does."""
    written = "cat /proc/$(pgrep -u cs-shop -x yes)/io | sed -n 's/^wchar: //p'"
    with only.running("node", "exec yes") as process:
        assert process.stdout and process.stdout.read(2) == b"y\n"
        last = [-1]

        def rests() -> bool:
            now = int(web1.on(written).out)
            last.append(now)
            return last[-1] == last[-2]

        eventually(rests, within_s=30)
        assert last[-1] < 64 << 20
        assert len(process.stdout.read(16 << 20)) == 16 << 20
        eventually(lambda: int(web1.on(written).out) > last[-1])
        process.stdout.close()
        eventually(lambda: not web1.pids("cs-shop", "yes"), within_s=20)


@NEWEST_FIRST
def test_a_login_that_runs_nothing_starts_nothing(only: Colleague, web1: Web1) -> None:
    web1.client.workspace.stop(name="shop")
    with only.running("-N", "-v", "node") as process:
        assert process.stderr
        while b"Entering interactive session" not in (line := process.stderr.readline()):
            assert line
        assert web1.client.workspace.get(name="shop").runtime.state == "stopped"
        assert not web1.on("systemctl is-active user@$(id -u cs-only).service", check=False).ok
    with only.session():
        runtime = web1.client.workspace.get(name="shop").runtime
        assert (runtime.state, runtime.idle_stop_at) == ("running", None)


@NEWEST_FIRST
def test_a_key_that_is_taken_away_ends_no_session_and_disable_does(only: Colleague, web1: Web1, tmp_path: Path) -> None:
    another = Colleague(web1, tmp_path, "another")
    user = web1.client.user
    with only.session() as process:
        assert process.stdin and process.stdout
        user.set_keys(name="only", ssh_keys=[another.key_line])
        only.ssh("id", code=255)
        process.stdin.write(b"still here\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"still here\n"
        user.disable(name="only")
        assert process.wait(20) == 255
    user.set_keys(name="only", ssh_keys=[only.key_line])
    user.enable(name="only")
    assert only.ssh("id -un") == "cs-shop\n"
