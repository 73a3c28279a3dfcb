"""P10: bytes through `workspace.forward`, beside `ssh -L` to the same server on the same node."""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.clock import until
from bench.row import Row, at_least
from bench.site import Site
from bench.ssh_master import ssh
from codesmith.lab import LabNode

NAME, PORT = "bulk10", 7710
BYTES, ROUNDS, LEAST = 300 << 20, 5, 0.8
OPENS_WITHIN_S = 30.0
# Sends zeros to whoever connects.
SERVER = f"""
import socket
server = socket.create_server(("127.0.0.1", {PORT}))
while True:
    client, _ = server.accept()
    with client:
        for _ in range({BYTES >> 20}):
            client.sendall(bytes(1 << 20))
"""


def rows(site: Site, node: LabNode) -> list[Row]:
    """Download by both ways in turns, from a server inside and one on the node."""
    site.inv("workspace.create", NAME, "--node", "web1", proof=NAME).run()
    site.inv("sandbox.create", NAME, "--network", "none", "--node", "web1").run()
    start = f"nohup python3 -c {shlex.quote(SERVER)} >/dev/null 2>&1 </dev/null & sleep 1"
    node.run(["sh", "-c", start])
    with _inside(site), _forwarded(site) as ours, _ssh_l(site) as theirs:
        series: tuple[list[float], list[float]] = ([], [])
        for turn in range(ROUNDS + 1):
            for get, found in zip((ours, theirs), series, strict=True):
                rate = get()
                if turn:
                    found.append(rate)
    compared = f"{BYTES >> 20} MiB down, one connection; `ssh -N -L` to a server on the node itself; {ROUNDS} turns"
    return [at_least("P10", "workspace.forward, bulk", *series, LEAST, "MB/s", compared)]


@contextmanager
def _inside(site: Site) -> Iterator[None]:
    """Run the server in the workspace, by a session that stays."""
    import json

    shown = site.inv("ssh.config", "--print", "--json")
    done = subprocess.run(shown.argv, cwd=shown.folder, env=shown.environment, capture_output=True, check=True)
    config = json.loads(done.stdout)["config"]
    argv = ["ssh", "-F", config, f"{NAME}.web1.codesmith", f"exec python3 -c {shlex.quote(SERVER)}"]
    with subprocess.Popen(argv, env=site.environment, stdin=subprocess.PIPE) as session:
        try:
            yield
        finally:
            session.terminate()


@contextmanager
def _forwarded(site: Site) -> Iterator[Callable[[], float]]:
    local = _free_port()
    site.inv("workspace.forward", NAME, f"{local}:{PORT}", "--background", "--node", "web1").run()
    yield lambda: _get(local)
    site.inv("workspace.forward", NAME, "--stop", "--node", "web1").run()


@contextmanager
def _ssh_l(site: Site) -> Iterator[Callable[[], float]]:
    local = _free_port()
    command = ssh(site, "web1")
    argv = (*command.argv[:1], "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{PORT}", *command.argv[1:])
    with subprocess.Popen(argv, env=command.environment, stdin=subprocess.DEVNULL) as process:
        try:
            yield lambda: _get(local)
        finally:
            process.terminate()


def _get(port: int) -> float:
    """Download once and return MB/s."""
    found: list[float] = []

    def try_once() -> bool:
        try:
            found.append(_download(port))
        except ConnectionError:
            return False
        return found[-1] > 0

    until(try_once, OPENS_WITHIN_S)
    return found[-1]


def _download(port: int) -> float:
    begun, got, space = time.perf_counter(), 0, bytearray(1 << 18)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while count := connection.recv_into(space):
            got += count
    return got / 1e6 / (time.perf_counter() - begun) if got == BYTES else 0.0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
