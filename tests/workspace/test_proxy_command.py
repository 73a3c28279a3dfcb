"""The ProxyCommand as ssh runs it, against the agent's front end with a stand-in for the runtime."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codesmith.workspace import proxy_command
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.stand_in_runtime import HOST_KEY, StandInRuntime
from tests.sdk.sdk_doubles import http, scripted

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIuGpN3yNLEY6w4XWQDo5tVH0sg6O3oMyJ2nRZbZ2q5"
ALIAS = "demo.web1.codesmith"
BANNER = b"SSH-2.0-StandIn\r\n"


@pytest.fixture
def rpc(tmp_path: Path) -> Iterator[Rpc]:
    yield from serve(tmp_path)


@pytest.fixture
def runtime(rpc: Rpc, tmp_path: Path) -> Iterator[StandInRuntime]:
    there = StandInRuntime(tmp_path / "demo.sock")
    rpc.call("workspace.create", name="demo")
    yield there
    there.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the configuration, beside the operator's key."""
    (tmp_path / "ssh" / "a b").mkdir(parents=True)
    (tmp_path / "ssh" / "id_ed25519.pub").write_text(f"{KEY} codesmith\n")
    return tmp_path / "ssh" / "a b"


@pytest.fixture
def proxy(tmp_path: Path, folder: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run the command as ssh does: `proxy(typed=b"...")` gives it standard input and its end."""

    def run(
        *, alias: str = ALIAS, endpoint: str = "", typed: bytes = b"", token_file: str = "",
        options: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        words = [endpoint or str(tmp_path / "agent.sock"), str(folder), "web1", alias, *filter(None, [token_file])]
        argv = [sys.executable, "-IS", *options, proxy_command.__file__, *words]
        return subprocess.run(argv, input=typed, capture_output=True, timeout=30, check=False)

    return run


def test_it_carries_bytes_both_ways_and_both_ends(proxy: Any, runtime: StandInRuntime) -> None:
    typed = os.urandom(2_000_000)
    done = proxy(typed=typed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == BANNER + typed
    assert runtime.requests[-1]["public_key"] == KEY


def test_dial_and_stream_take_one_connection(proxy: Any, rpc: Rpc, runtime: StandInRuntime) -> None:
    accepted = []
    admit = rpc.connections.admit
    rpc.connections.admit = lambda: accepted.append(1) or admit()
    assert proxy().returncode == 0
    assert len(accepted) == 1


def test_it_imports_nothing_of_ours(proxy: Any, runtime: StandInRuntime) -> None:
    done = proxy(options=("-X", "importtime"))
    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"_socket" in imported
    assert not {b"codesmith", b"json", b"socket", b"subprocess", b"pathlib", b"threading", b"site"} & imported


def test_the_host_key_of_the_alias_is_pinned(proxy: Any, folder: Path, runtime: StandInRuntime) -> None:
    pins = folder / "known_hosts"
    assert proxy().returncode == 0
    assert pins.read_text() == f"{ALIAS} {HOST_KEY}\n"
    assert pins.stat().st_mode & 0o777 == 0o600
    other = HOST_KEY.replace("IOEw", "IOEx")
    pins.write_text(f"other.web1.codesmith {HOST_KEY}\n{ALIAS} {HOST_KEY}\n")
    runtime.answers["ssh_host_keys"] = {"result": {"host_keys": [other]}}
    assert proxy(alias="DEMO.web1.codesmith").returncode == 0
    assert pins.read_text() == f"other.web1.codesmith {HOST_KEY}\n{ALIAS} {other}\n"


def test_pins_of_several_at_once_are_all_kept(folder: Path) -> None:
    aliases = [f"w{number}.web1.codesmith" for number in range(20)]
    pinning = [threading.Thread(target=proxy_command.pin, args=(str(folder), alias, [HOST_KEY])) for alias in aliases]
    for thread in pinning:
        thread.start()
    for thread in pinning:
        thread.join()
    assert sorted((folder / "known_hosts").read_text().splitlines()) == sorted(f"{one} {HOST_KEY}" for one in aliases)


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "0" * 64, "host_keys": [f"{HOST_KEY}\nevil {HOST_KEY}"]},
        {"token": "0" * 64, "host_keys": [f'{HOST_KEY}"]}}{{"host_keys":["{HOST_KEY}']},
        {"token": "0" * 64, "host_keys": ["ssh-ed25519 AAAA\nevil"]},
        {"token": "0" * 64, "host_keys": []},
        {"token": "0" * 64 + "\r\nX: y", "host_keys": [HOST_KEY]},
        {"token": 7, "host_keys": [HOST_KEY]},
        {"host_keys": [HOST_KEY]},
    ],
)
def test_an_answer_that_is_none_pins_nothing(proxy: Any, folder: Path, tmp_path: Path, answer: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "result": answer}
    with scripted(tmp_path / "other.sock", http(body)):
        done = proxy(endpoint=str(tmp_path / "other.sock"))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: web1 answered ")
    assert not (folder / "known_hosts").exists()


def test_a_refusal_of_the_agent_is_shown_with_its_next_step(proxy: Any, runtime: StandInRuntime) -> None:
    done = proxy(alias="nothing.web1.codesmith")
    assert done.returncode == 1
    assert done.stderr == b"error: no workspace 'nothing' on this node\nhint: inv workspace.list\n"


def test_a_refusal_of_the_forwarder_is_shown_with_its_next_step(proxy: Any, tmp_path: Path) -> None:
    error = {"error": {"kind": "Unreachable", "problem": "no route\x1b[2J", "hint": "inv node.status"}}
    with scripted(tmp_path / "other.sock", http(error, status="503 Service Unavailable")):
        done = proxy(endpoint=str(tmp_path / "other.sock"))
    assert done.stderr == b"error: no route?[2J\nhint: inv node.status\n"


def test_a_stream_that_is_refused_says_why(proxy: Any, runtime: StandInRuntime) -> None:
    runtime.answers["start"] = {"error": {"code": 1004, "message": "busy", "data": {"kind": "in_use", "hint": "wait"}}}
    done = proxy()
    assert (done.returncode, done.stderr) == (1, b"error: busy\nhint: wait\n")


@pytest.mark.parametrize("alias", ["web1.codesmith", ".web1.codesmith", "a.b.web1.codesmith", "demo.db.codesmith", "x"])
def test_a_name_that_is_no_workspace_is_refused(proxy: Any, alias: str) -> None:
    done = proxy(alias=alias)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"is no workspace" in done.stderr


def test_an_endpoint_that_is_not_open_is_opened(
    proxy: Any, folder: Path, runtime: StandInRuntime, tmp_path: Path
) -> None:
    """As a call of ours does; what it prints must not reach ssh, and it must not read what ssh sends."""
    link = tmp_path / "later.sock"
    script = f'cat; echo noise; echo "$A:$B" >{tmp_path}/seen; ln -s {tmp_path}/agent.sock {link}'
    how = {"start": ["/bin/sh", "-c", script], "environment": {"A": "1", "B": None}}
    (folder / "web1.json").write_text(json.dumps(how))
    done = proxy(endpoint=str(link), typed=b"hello")
    assert (done.returncode, done.stdout) == (0, BANNER + b"hello")
    assert (tmp_path / "seen").read_text() == "1:\n"


def test_an_endpoint_that_cannot_be_opened_is_an_error(proxy: Any, folder: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.sock")
    done = proxy(endpoint=missing)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the endpoint of web1 is not open")
    assert done.stderr.endswith(b"hint: inv node.connect --node web1\n")
    how = {"program": "codesmith"}
    (folder / "web1.json").write_text(json.dumps(how))
    assert proxy(endpoint=missing).stderr.endswith(b"hint: codesmith node.connect --node web1\n")
    how = {"start": ["/bin/sh", "-c", "echo 'error: no route' >&2; exit 5"], "environment": {}}
    (folder / "web1.json").write_text(json.dumps(how))
    done = proxy(endpoint=missing)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"error: no route\n")


def test_a_workspace_that_ends_at_once_is_an_error(proxy: Any, tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "result": {"token": "0" * 64, "host_keys": [HOST_KEY]}}
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"
    with listening(tmp_path / "other.sock", [http(body) + b"", switched]):
        done = proxy(endpoint=str(tmp_path / "other.sock"))
    assert (done.returncode, done.stderr) == (
        1, b"error: the workspace ended the connection at once\nhint: inv node.logs\n",
    )  # fmt: skip


def test_a_connection_that_closes_after_dial_is_opened_again(proxy: Any, tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "result": {"token": "0" * 64, "host_keys": [HOST_KEY]}}
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nSSH-2.0-There\r\n"
    with listening(tmp_path / "other.sock", [http(body, headers="Connection: close\r\n")], [switched]):
        done = proxy(endpoint=str(tmp_path / "other.sock"))
    assert (done.returncode, done.stdout) == (0, b"SSH-2.0-There\r\n")


@pytest.mark.parametrize("asked", [0, 1], ids=["dial", "stream"])
def test_a_connection_that_ends_without_an_answer_is_replaced_once(proxy: Any, tmp_path: Path, asked: int) -> None:
    """The agent restarts, and the endpoint had this stream to it ready."""
    dialled = http({"jsonrpc": "2.0", "id": 1, "result": {"token": "0" * 64, "host_keys": [HOST_KEY]}})
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nSSH-2.0-There\r\n"
    ends = [*[dialled] * asked, b""]
    with listening(tmp_path / "other.sock", ends, [dialled, switched]):
        done = proxy(endpoint=str(tmp_path / "other.sock"))
    assert (done.returncode, done.stdout) == (0, b"SSH-2.0-There\r\n")
    with listening(tmp_path / "third.sock", ends, ends):
        done = proxy(endpoint=str(tmp_path / "third.sock"))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the connection ended before the answer" in done.stderr


def test_it_speaks_to_a_port_with_its_token(proxy: Any, runtime: StandInRuntime, tmp_path: Path) -> None:
    from codesmith.http.connection_limit import ConnectionLimit
    from codesmith.http.session import Session

    (tmp_path / "token").write_text("a-token-of-the-port\n")
    with socket.create_server(("127.0.0.1", 0)) as port:
        number = port.getsockname()[1]

        def answer() -> None:
            client, _ = port.accept()
            with client:
                limit = ConnectionLimit(8)
                limit.admit(client)
                Session(client, limit, number, "a-token-of-the-port", tmp_path / "agent.sock").serve()

        serving = threading.Thread(target=answer)
        serving.start()
        done = proxy(endpoint=f"127.0.0.1:{number}", token_file=str(tmp_path / "token"), typed=b"hello")
        serving.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, BANNER + b"hello", b"")


class listening:
    """A server at a path: each connection gets its answers, one for each request, and is closed."""

    def __init__(self, path: Path, *connections: list[bytes]) -> None:
        self._connections = connections
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        for answers in self._connections:
            connection, _ = self._socket.accept()
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)
