"""The story of the runtime: two workspaces of one node, entered by every way at once, while all around them dies."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.shared.names import unit_of
from codesmith.nodes.registry import Registry
from codesmith.sdk.api import Execution
from codesmith.sdk.client import Client
from tests.agent.on_node.door_one import Door, alias, free_port, talk
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
SERVE = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
def serve(connection):
    with connection:
        connection.sendall(sys.argv[2].encode() + b" has " + b"".join(iter(lambda: connection.recv(65536), b"")))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""
LINKS = ("sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1")
HOG = "x = bytearray(300 << 20); print(len(x))"
FORKS = """
import os, time
made = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
# SIGKILL for front end and helper, until another front end answers.
KILL_AGENT = """
main() { systemctl show --property=MainPID --value codesmith-agent.service; }
old=$(main)
systemctl kill --signal=KILL codesmith-agent.service codesmith-helper.service
while [ "$(main)" = "$old" ] || [ "$(main)" = 0 ]; do sleep 0.1; done
call='{"jsonrpc":"2.0","id":1,"method":"node.version"}'
curl --silent --retry 20 --retry-all-errors --unix-socket /run/codesmith/agent.sock http://node/ --data "$call"
"""
# Goes on until somebody says that it is enough.
WAITING = "echo up; until test -e data/enough; do sleep 0.1; done; echo over"
MEMORY, TASKS = 128 << 20, 60
QUIET_PORT, OPEN_PORT = 7001, 7002


class Inside:
    """Somebody in a workspace by ssh, an editor's server and a forward, at once."""

    def __init__(self, door: Door, name: str, port: int, stack: ExitStack) -> None:
        self.door, self.name = door, name
        self.session = stack.enter_context(door.session(name))
        server = f"exec python3 -c {shlex.quote(SERVE)} {port} {name}"
        self.editor = stack.enter_context(door.running(alias(name), server))
        assert self.editor.stdout
        assert self.editor.stdout.readline() == b"listens\n"
        self.local = free_port()
        forward = f"127.0.0.1:{self.local}:127.0.0.1:{port}"
        self.forward = stack.enter_context(door.running("-N", "-L", forward, alias(name)))
        self.check()

    def check(self) -> None:
        """All three answer."""
        assert self.session.stdin
        assert self.session.stdout
        self.session.stdin.write(b"there?\n")
        self.session.stdin.flush()
        assert self.session.stdout.readline() == b"there?\n"
        assert talk(self.local, b"a port") == self.name.encode() + b" has a port"

    def copy(self, folder: Path) -> None:
        """A file goes in by scp and comes back whole."""
        data = os.urandom(500_000)
        (folder / self.name).write_bytes(data)
        self.door.run("scp", "-q", str(folder / self.name), f"{alias(self.name)}:data/copied")
        self.door.run("scp", "-q", f"{alias(self.name)}:data/copied", str(folder / "back"))
        assert (folder / "back").read_bytes() == data

    def has_ended(self) -> bool:
        """Every connection into the workspace is closed."""
        return all(process.poll() is not None for process in (self.session, self.editor, self.forward))


@contextmanager
def both(door: Door) -> Iterator[tuple[Inside, Inside]]:
    """Enter the workspace without network and the one with it; stop what they leave running."""
    with ExitStack() as stack:
        yield Inside(door, "quiet", QUIET_PORT, stack), Inside(door, "open", OPEN_PORT, stack)
    for name in ("quiet", "open"):
        door.web1.client.workspace.stop(name=name)


def execute(web1: Web1, name: str, *argv: str) -> Execution:
    """Run a command by a client of its own."""
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        return client.workspace.exec(name=name, argv=list(argv), timeout_s=50.0)


@pytest.fixture(scope="module")
def door(web1: Web1) -> Door:
    for name, network in (("quiet", "none"), ("open", "full")):
        web1.client.workspace.create(name=name)
        limits = {"memory_bytes": MEMORY, "tasks": TASKS} if name == "quiet" else {"memory_bytes": 4 * MEMORY}
        web1.client.sandbox.create(workspace=name, limits=limits, network=network)
    return Door(web1)


def test_two_workspaces_live_beside_each_other_whatever_dies(door: Door, web1: Web1) -> None:
    client = web1.client
    with TemporaryDirectory() as folder, both(door) as (quiet, open_):
        for one in (quiet, open_):
            one.copy(Path(folder))
        assert client.workspace.exec(name="quiet", argv=list(LINKS)).stdout.split() == ["lo"]
        assert client.workspace.exec(name="open", argv=list(LINKS)).stdout.strip() != "lo"
        # What one uses up is not the other's.
        assert client.workspace.exec(name="quiet", argv=["python3", "-c", HOG]).killed_by == "memory"
        assert client.workspace.exec(name="open", argv=["python3", "-c", HOG]).exit_code == 0
        assert int(client.workspace.exec(name="quiet", argv=["python3", "-c", FORKS]).stdout) < TASKS
        for one in (quiet, open_):
            one.check()
        # Nor can it kill, see or reach it.
        killed = client.workspace.exec(name="quiet", argv=["sh", "-c", "pkill -9 -f listens; ps -A -o user= | sort -u"])
        assert "cs-open" not in killed.stdout
        assert "listens" not in killed.stdout
        open_.check()
        refused = client.workspace.exec(
            name="quiet", argv=["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 7002))"]
        )
        assert "ConnectionRefusedError" in refused.stderr


def test_what_runs_survives_helper_and_front_end_and_the_other_ones_supervisor(door: Door, web1: Web1) -> None:
    client = web1.client
    with both(door) as (quiet, open_), door.running(alias("open"), WAITING) as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == b"up\n"
        web1.on(KILL_AGENT)
        client.close()
        for one in (quiet, open_):
            one.check()
        pid = web1.on(f"systemctl show --property=MainPID --value {unit_of('quiet', 'service')}").out.strip()
        web1.on(f"kill -KILL {pid}")
        web1.person.wait_until(quiet.has_ended, within_s=30)
        open_.check()
        assert execute(web1, "quiet", "echo", "again").stdout == "again\n"
        assert execute(web1, "open", "touch", "data/enough").exit_code == 0
        assert waiting.stdout.read() == b"over\n"
    client.close()


@pytest.mark.long
def test_a_power_cut_ends_all_and_both_come_back_as_they_were(door: Door, web1: Web1) -> None:
    node = web1.person.lab_node("web1")
    client = web1.client
    before = {one.name: one.to_dict() for one in client.workspace.list()}
    with both(door) as (quiet, open_):
        client.workspace.exec(name="open", argv=["sh", "-c", "echo kept > data/kept; sync"])
        node.power_cut()
        node.start()
        web1.person.wait_until(lambda: quiet.has_ended() and open_.has_ended(), within_s=60)
    client.close()
    web1.person.runs("inv node.connect")
    found = {name: client.workspace.get(name=name).to_dict() for name in before}
    for one in (*before.values(), *found.values()):
        one.pop("runtime")
    assert found == before
    assert {client.workspace.get(name=name).runtime.state for name in before} == {"stopped"}
    assert door.ssh("open", "cat data/kept") == "kept\n"
    assert execute(web1, "quiet", *LINKS).stdout.split() == ["lo"]
    assert execute(web1, "quiet", "python3", "-c", HOG).killed_by == "memory"
    with both(door) as (quiet, open_):
        quiet.check()
        open_.check()
    client.close()


def test_nothing_is_left_when_both_are_deleted(door: Door, web1: Web1) -> None:
    for name in ("quiet", "open"):
        assert web1.client.workspace.delete(name=name).leftovers == []
    assert web1.on("pgrep -l -U cs-quiet,cs-open; ls /run/codesmith/workspaces", check=False).out == ""
    done = subprocess.run(door.argv("ssh", alias("open"), "true"), capture_output=True, env=web1.person.environment)
    assert done.returncode == 255
    web1.client.close()
