"""Jobs where systemd, isolation, limits and sshd are the true ones."""

from __future__ import annotations

import base64

import pytest

from agent.shared.names import unit_of
from tests.agent.on_node.door_one import Door, alias
from tests.agent.on_node.web1 import Web1
from tests.releases import NEWEST_FIRST, TRIXIE_FIRST

pytestmark = pytest.mark.lab
ENDS_ITSELF = "codesmith-job start -- sh -c 'echo from $0; exit 4' "
# Fills the memory of its workspace.
HOG = "x = bytearray(1 << 30); x[::4096] = b'x' * len(x[::4096])"


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
