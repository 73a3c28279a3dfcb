"""workspace.forward on real nodes: a port inside is a port here, until Ctrl-C or in the background, through outages."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.on_node.door_one import Door, alias, free_port, talk
from tests.agent.on_node.web1 import Web1
from tests.person import TOP
from tests.releases import BOOKWORM_FIRST
from tests.waiting import is_running

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
WITHIN_S = 40
LISTENS_ON_6 = "import socket; s = socket.create_server(('::1', %d), family=socket.AF_INET6)"
LISTENS_ON_6 += "; print('listens', flush=True)"
LISTENS_ON_6 += "; c, _ = s.accept(); c.sendall(b'by six'); c.close()"


@pytest.fixture(scope="module")
def door(web1: Web1) -> Door:
    for name in ("demo", "other"):
        web1.client.workspace.create(name=name)
    web1.client.sandbox.create(workspace="other", network="none")
    return Door(web1)


@contextmanager
def forwarding(door: Door, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run workspace.forward in the foreground; Ctrl-C at the end, after which it ends with 0."""
    argv = [str(Path(sys.executable).parent / "inv"), "workspace.forward", *words]
    given = {"cwd": TOP, "env": door.person.environment, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, **given) as process:  # type: ignore[call-overload]
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def pid_of(door: Door) -> int:
    return int((door.person.home / "run" / "forwarder.lock").read_text())


def states(door: Door, *words: str) -> list[str]:
    rows = door.person.runs("inv workspace.forward demo --list --json").json
    return [row["state"] for row in rows]


def test_ports_are_here_until_ctrl_c(door: Door) -> None:
    one, two, local, here = (free_port() for _ in range(4))
    with door.serving("demo", one), door.serving("demo", two):
        with forwarding(door, "demo", str(one + 1), f"{local}:{one}", f"{here}:{two}") as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(3)]
            assert lines[1] == f"http://127.0.0.1:{local} -> demo:{one}\n"
            assert talk(local, b"x") == b"inside x" and talk(here, b"y") == b"inside y"
            listening = door.person.runs(f"ss -ltnH 'sport = :{local}'").out.split()
            assert listening[3] == f"127.0.0.1:{local}"
        assert not is_open(local)


def test_what_is_not_there_yet_is_there_later(door: Door) -> None:
    port, local = free_port(), free_port()
    with forwarding(door, "demo", f"{local}:{port}") as process:
        assert process.stdout and process.stderr and process.stdout.readline()
        process.stderr.readline()
        assert talk(local, b"") == b""
        assert f"nothing listens at port {port} of demo yet" in process.stderr.readline()
        with door.serving("demo", port):
            assert talk(local, b"now") == b"inside now"


def test_a_server_on_the_other_loopback_is_reached(door: Door) -> None:
    port, local = free_port(), free_port()
    with door.running(alias("demo"), f"python3 -c {shlex.quote(LISTENS_ON_6 % port)}") as server:
        assert server.stdout and server.stdout.readline() == b"listens\n"
        with forwarding(door, "demo", f"{local}:{port}") as process:
            assert process.stdout and process.stdout.readline()
            assert talk(local, b"") == b"by six"


def test_it_needs_no_network_inside(door: Door) -> None:
    port, local = free_port(), free_port()
    with door.serving("other", port), forwarding(door, "other", f"{local}:{port}") as process:
        assert process.stdout and process.stdout.readline()
        assert talk(local, b"z") == b"inside z"


def test_ports_that_cannot_be_are_errors(door: Door) -> None:
    person = door.person
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        said = person.fails(f"inv workspace.forward demo {number}:3000", code=1)
        assert f"127.0.0.1:{number} is taken by " in said.err and f"(pid {os.getpid()})" in said.err
        assert "--any" in said.err
        person.fails(f"inv workspace.forward demo {number}:3000 --background", code=1)
        (row,) = person.runs(f"inv workspace.forward demo {number}:3000 --background --any --json").json
        assert row["local"] > number
        person.runs("inv workspace.forward demo --stop")
    person.fails("inv workspace.forward nothing 3000", code=3)
    person.fails("inv workspace.forward demo", code=1)
    for word in ("0", "70000", "x", "1:2:3"):
        person.fails(f"inv workspace.forward demo {word}", code=1)


def test_in_the_background_it_is_kept_listed_and_ended(door: Door) -> None:
    port, local, here, person = free_port(), free_port(), free_port(), door.person
    with door.serving("demo", port), door.serving("other", port):
        (row,) = person.runs(f"inv workspace.forward demo {local}:{port} --background --json").json
        assert (row["address"], row["state"]) == (f"127.0.0.1:{local}", "ready")
        person.runs(f"inv workspace.forward other {here}:{port} --background")
        assert talk(local, b"x") == b"inside x" and talk(here, b"y") == b"inside y"
        # The same again is the one that is there; for something else the port is taken.
        person.runs(f"inv workspace.forward demo {local}:{port} --background")
        person.fails(f"inv workspace.forward other {local}:{port} --background", code=1)
        (node,) = person.runs("inv node.status --json").json
        assert [(one["workspace"], one["local"]) for one in node["forwards"]] == [("demo", local), ("other", here)]
        rows = person.runs("inv workspace.forward --list --json").json
        assert [(one["workspace"], one["node"]) for one in rows] == [("demo", "web1"), ("other", "web1")]
        assert f"127.0.0.1:{local}=demo:{port}" in person.runs("inv node.status").out
        person.runs(f"inv workspace.forward demo {port} --stop")
        assert not is_open(local) and is_open(here)
        assert "nothing to do: port" in person.runs(f"inv workspace.forward demo {port} --stop").err
        person.runs("inv workspace.forward other --stop")
        assert not is_open(here)


@pytest.mark.long
def test_in_the_background_what_does_not_listen_yet_is_named(door: Door) -> None:
    """And a workspace that was deleted is said to be, until --stop."""
    port, local, here, person, client = free_port(), free_port(), free_port(), door.person, door.web1.client
    client.workspace.create(name="brief")
    with door.serving("brief", port):
        said = person.runs(f"inv workspace.forward brief {local}:{port} {here}:{port + 1} --background")
    assert f"nothing listens at port {port + 1} of brief yet" in said.err and str(port) + " " not in said.err
    client.workspace.delete(name="brief")

    def reasons() -> set[str]:
        return {row["reason"] for row in person.runs("inv workspace.forward brief --list --json").json}

    person.wait_until(lambda: reasons() == {"brief was deleted"}, within_s=WITHIN_S)
    assert len(person.runs("inv workspace.forward brief --stop --json").json) == 2
    assert "nothing to do" in person.runs("inv workspace.forward brief --stop").err and reasons() == set()


@pytest.mark.long  # tests/tunnel kills forwarders, and a forward's own ssh
def test_it_survives_a_killed_forwarder(door: Door) -> None:
    port, local, person = free_port(), free_port(), door.person
    with door.running(alias("demo"), "exec cat"):
        person.runs(f"inv workspace.forward demo {local}:{port} --background")
        killed = pid_of(door)
        os.kill(killed, signal.SIGKILL)
        person.wait_until(lambda: not is_running(killed) and not is_open(local), within_s=10)
        person.runs("inv node.version")
        person.wait_until(lambda: is_open(local), within_s=WITHIN_S)
        assert states(door) == ["ready"]
        with door.serving("demo", port):
            assert talk(local, b"again") == b"inside again"
    person.runs("inv workspace.forward demo --stop")


def test_it_survives_a_cut_connection(door: Door) -> None:
    port, local, person = free_port(), free_port(), door.person
    person.runs(f"inv workspace.forward demo {local}:{port} --background")
    door.web1.on("pkill -KILL -f 'sshd: root@notty|sshd-session: root@notty'", check=False)
    with door.serving("demo", port):
        person.wait_until(lambda: is_open(local) and talk(local, b"back") == b"inside back", within_s=WITHIN_S)
    person.runs("inv workspace.forward demo --stop")


@pytest.mark.long  # tests/tunnel/test_tunnel_forwards.py has its states
def test_a_stopped_workspace_is_not_started_for_it(door: Door) -> None:
    port, local, person = free_port(), free_port(), door.person
    person.runs(f"inv workspace.forward demo {local}:{port} --background")
    client = door.web1.client
    client.workspace.stop(name="demo")
    person.wait_until(lambda: "degraded" in states(door), within_s=WITHIN_S)
    (row,) = person.runs("inv workspace.forward demo --list --json").json
    assert row["reason"] == "demo is stopped" and row["hint"] == "inv workspace.start demo"
    assert client.workspace.get(name="demo").runtime.state == "stopped"
    client.workspace.start(name="demo")
    person.wait_until(lambda: states(door) == ["ready"], within_s=WITHIN_S)
    person.runs("inv workspace.forward demo --stop")


def test_disconnect_ends_it(door: Door) -> None:
    local, person = free_port(), door.person
    person.runs(f"inv workspace.forward demo {local}:3000 --background")
    person.runs("inv node.disconnect")
    assert not is_open(local)
    person.runs("inv node.connect")
    assert states(door) == []
