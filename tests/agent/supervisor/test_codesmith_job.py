"""`codesmith-job`: what programs inside do with jobs; and the socket that it asks."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.shared import framing
from tests.agent.supervisor.client import ended, job
from tests.agent.supervisor.conftest import Supervisor

STATE = "home/.local/state/codesmith"
# The place of the tests may allow no programs, nor this Python: that it is in PATH, and runs, is seen on a node.
DEFINE = 'codesmith-job() { python3 -I -S ~/../release job ~/.local/state/codesmith/job.sock "$@"; }; '


def inside(supervisor: Supervisor, command: str, **fields: Any) -> str:
    """Run a command line in the workspace that must succeed without a word on stderr."""
    done = supervisor.run("bash", "-c", DEFINE + command, **fields)
    assert (done["exit_code"], done["stderr"]) == (0, ""), done
    said: str = done["stdout"]
    return said


@pytest.fixture
def connection(supervisor: Supervisor) -> Iterator[socket.socket]:
    """A connection to the socket inside."""
    supervisor.ask("start")
    with socket.socket(socket.AF_UNIX) as found:
        found.settimeout(20)
        found.connect(str(supervisor.folder / STATE / "job.sock"))
        yield found


@pytest.mark.slow
def test_a_job_that_is_started_inside_outlives_its_command(supervisor: Supervisor) -> None:
    (supervisor.folder / "place/code").mkdir()
    script = "echo $WORD $PWD; until test -e gate; do sleep 0.02; done; echo over; echo bad >&2; exit 6"
    command = f"cd code; WORD=well codesmith-job start --name build -- sh -c '{script}'"
    identifier = inside(supervisor, command).strip()
    assert re.fullmatch("[0-9a-f]{12}", identifier)
    record = supervisor.ask("job_get", id=identifier)["result"]["job"]
    assert (record["name"], record["state"], record["by"], record["argv"][:2]) == (
        "build",
        "running",
        None,
        ["sh", "-c"],
    )
    place = f"{supervisor.folder}/place/code"
    supervisor.wait_until(lambda: record_bytes(supervisor, identifier))
    assert inside(supervisor, "codesmith-job logs build") == f"well {place}\n"
    with supervisor.send(
        "exec", **supervisor.command("bash", "-c", f"{DEFINE} codesmith-job logs -f {identifier}")
    ) as follower:
        (supervisor.folder / "place/code/gate").touch()
        followed = framing.receive(follower, 1 << 20)["result"]
    assert (followed["stdout"], followed["stderr"]) == (f"well {place}\nover\n", "bad\n")
    assert supervisor.run("bash", "-c", f"{DEFINE} codesmith-job wait build")["exit_code"] == 6
    table = inside(supervisor, "codesmith-job list").splitlines()
    assert (table[0].split(), table[1].split()[:4]) == (
        ["ID", "NAME", "STATE", "CODE", "STARTED", "COMMAND"],
        [identifier, "build", "exited", "6"],
    )
    assert json.loads(inside(supervisor, "codesmith-job list --json"))[0]["id"] == identifier
    inside(supervisor, f"codesmith-job delete {identifier}")
    assert inside(supervisor, "codesmith-job list") == ""


def record_bytes(supervisor: Supervisor, identifier: str) -> int:
    count: int = supervisor.ask("job_get", id=identifier)["result"]["job"]["stdout_bytes"]
    return count


def test_a_job_can_be_stopped_from_inside(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sleep", "1000", name="long")["id"]
    inside(supervisor, "codesmith-job stop --grace 1 long")
    assert ended(supervisor, identifier)["killed_by"] == "operator"


NO_NAME = "error: --name takes 1 to 64 characters, without control characters\n"
NO_ANSWER = "error: the runtime of this workspace does not answer"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("logs none", 3, "error: no job 'none' in this workspace\nhint: codesmith-job list\n"),
        ("start", 2, "error: no command\nhint: codesmith-job start -- COMMAND\n"),
        ("start --name '' -- true", 2, NO_NAME),
        ("stop --signal SIGX $(codesmith-job start -- sleep 9)", 1, "error: signal: is no signal of this node\n"),
        ("list $(rm ~/.local/state/codesmith/job.sock)", 1, NO_ANSWER),
    ],
)
def test_what_is_wrong_is_told_with_the_next_command(
    supervisor: Supervisor, command: str, code: int, said: str
) -> None:
    done = supervisor.run("bash", "-c", f"{DEFINE} codesmith-job {command}")
    assert (done["exit_code"], done["stdout"]) == (code, "")
    assert done["stderr"].startswith(said), done


def test_help_tells_what_can_be_done(supervisor: Supervisor) -> None:
    said = inside(supervisor, "codesmith-job --help")
    assert all(
        word in said for word in ("start", "list", "logs", "stop", "wait", "delete", "codesmith-job logs -f web")
    )
    assert "--name" in inside(supervisor, "codesmith-job start --help")
    assert supervisor.run("bash", "-c", f"{DEFINE} codesmith-job")["exit_code"] == 2


def test_nobody_inside_says_who_he_is(connection: socket.socket, supervisor: Supervisor) -> None:
    fields = {"argv": ["true"], "id": "0" * 12, "by": "root", "ends_with_stream": True}
    framing.send(connection, {"protocol": 1, "request": "job_start", **fields})
    record = framing.receive(connection, 1 << 20)["result"]["job"]
    assert (record["by"], record["id"] != "0" * 12, record["ends_with_stream"]) == (None, True, False)


@pytest.mark.parametrize("request_", ["exec", "run", "ssh", "git", "files", "watch", "status", "none", "__init__"])
def test_only_jobs_can_be_asked_for_inside(connection: socket.socket, request_: str) -> None:
    framing.send(connection, {"protocol": 1, "request": request_})
    assert framing.receive(connection, 1 << 20)["error"]["data"]["kind"] == "invalid_params"


@pytest.mark.parametrize("data", [b"\xff" * 8, struct.pack(">I", 2) + b"[]", struct.pack(">I", 90000) + b"[" * 90000])
def test_garbage_from_inside_ends_its_connection_alone(
    connection: socket.socket, supervisor: Supervisor, data: bytes
) -> None:
    connection.sendall(data)
    assert connection.recv(1) == b""
    assert inside(supervisor, "echo well") == "well\n"


def test_who_asks_slowly_or_never_holds_up_nobody(connection: socket.socket, supervisor: Supervisor) -> None:
    connection.send(b"\0")
    many = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for one in many:
        one.connect(str(supervisor.folder / STATE / "job.sock"))
        socket.send_fds(one, [b"\0"], [0])
    assert inside(supervisor, "echo well") == "well\n"
    for one in many:
        one.close()
    connection.close()
    supervisor.wait_until(lambda: len(os.listdir(f"/proc/{supervisor.process.pid}/fd")) <= 8)
    assert inside(supervisor, "codesmith-job list") == ""


@pytest.mark.slow
def test_a_login_that_takes_the_place_of_the_socket_harms_itself_alone(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    supervisor.run("sh", "-c", "cd ~/.local/state/codesmith; rm job.sock; mkdir job.sock; touch job.sock/x")
    supervisor = start()
    assert inside(supervisor, "echo well") == "well\n"
    supervisor.run("sh", "-c", "rm -rf ~/.local/state; touch ~/.local/state")
    supervisor = start()
    assert inside(supervisor, "echo well") == "well\n"
    assert supervisor.ask("job_start", argv=["true"], id="0" * 12)["error"]["data"]["kind"] == "limit"
    assert supervisor.ask("job_list")["result"]["jobs"] == []
