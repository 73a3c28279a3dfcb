"""The far side of VS Code, as npm has it, in a closed workspace: brought and started through the alias, and reached."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.agent.on_node import code_server
from tests.agent.on_node.door_one import Door, alias, free_port
from tests.agent.on_node.test_forward_on_node import forwarding
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE
from tests.waiting import eventually

# The first time it is built.
pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(1500), BOOKWORM_BEFORE_TRIXIE]
WORKSPACE = "/srv/codesmith/workspaces/demo"
FOLDER = ".editor"
COPY_S, ANSWER_S = 300, 120
# How a page begins to speak with the server, in one frame of a WebSocket: VS Code's header, and a control message.
UPGRADE = (
    "GET /{}?reconnectionToken=00000000-0000-4000-8000-000000000000&reconnection=false HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO = b'{"type":"auth","auth":"00000000000000000000","data":""}'
CONTROL = 2


class Editor(NamedTuple):
    """A server that runs inside, and the port that it listens at."""

    door: Door
    port: int


@pytest.fixture(scope="module")
def editor(web1: Web1) -> Iterator[Editor]:
    """Bring the server into a workspace without a network, and start it there, all by ssh."""
    web1.client.workspace.create(name="demo")
    web1.client.sandbox.create(workspace="demo", network="none")
    door, port = Door(web1), free_port()
    unpack = door.argv("ssh", alias("demo"), f"mkdir ~/{FOLDER} && tar --extract --directory ~/{FOLDER}")
    with subprocess.Popen(code_server.archive(code_server.install()), stdout=subprocess.PIPE) as packing:
        subprocess.run(unpack, stdin=packing.stdout, check=True, timeout=COPY_S, env=door.person.environment)
        assert packing.wait() == 0
    with door.running(alias("demo"), f"exec {code_server.command(f'~/{FOLDER}', port)} {WORKSPACE} 2>&1") as server:
        assert server.stdout
        said = []
        while f"listening on http://127.0.0.1:{port}/".encode() not in (said or [b""])[-1]:
            said.append(server.stdout.readline())
            assert said[-1], b"".join(said).decode()
        yield Editor(door, port)
    web1.client.workspace.stop(name="demo")


def get(port: int, path: str) -> tuple[str, str]:
    """Return what a port of this machine answers, and where it led; it may not listen at once."""
    opener = build_opener(ProxyHandler({}))

    def answer() -> tuple[str, str] | None:
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=ANSWER_S) as response:
                return response.read().decode(), response.geturl()
        except (URLError, ConnectionError):
            return None

    return eventually(answer, f"no answer of {path}", within_s=ANSWER_S)


def is_workbench(port: int) -> None:
    """Its page is that of VS Code for this workspace, and the program of the page comes too."""
    page, place = get(port, "/")
    assert place == f"http://127.0.0.1:{port}/?folder={WORKSPACE}"
    program = re.search(r'src="([^"]*/workbench\.js)"', page)
    assert program, page[-500:]
    assert len(get(port, f"/{program[1]}")[0]) > 1_000_000
    assert b'"type":"sign"' in hello(port, program[1].partition("/")[0])


def hello(port: int, place: str) -> bytes:
    """Return what the server answers to the first message of a page."""
    message = struct.pack(">BIII", CONTROL, 0, 0, len(HELLO)) + HELLO
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        connection.sendall(UPGRADE.format(place, port=port).encode())
        with connection.makefile("rb") as answer:
            head = b"".join(iter(answer.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 101 "), head
            connection.sendall(struct.pack(">BBI", 0x82, 0x80 | len(message), 0) + message)
            _, size, more = struct.unpack(">BBH", answer.read(4))
            assert size == 126  # the length follows
            return answer.read(more)


def test_its_page_comes_by_a_forward_of_ssh(editor: Editor) -> None:
    local = free_port()
    with editor.door.running("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{editor.port}", alias("demo")):
        is_workbench(local)


def test_its_page_comes_by_workspace_forward(editor: Editor) -> None:
    local = free_port()
    with forwarding(editor.door, "demo", f"{local}:{editor.port}") as process:
        assert process.stdout and process.stdout.readline()
        is_workbench(local)


def test_it_runs_inside_as_all_else_does(editor: Editor) -> None:
    web1 = editor.door.web1
    pids = web1.on("pgrep -u cs-demo -f out/node/entry.js").out.split()
    assert pids
    for pid in pids:
        assert "codesmith-workspace@demo.service" in web1.on(f"cat /proc/{pid}/cgroup").out
    # Nothing of it listens on the node itself.
    assert web1.on(f"ss -Hltn sport = :{editor.port}").out == ""
