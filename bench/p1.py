"""P1: a call over the forwarded socket, beside OpenSSH's `-L` to the same agent."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.clock import in_turns, until
from bench.row import Row, ratio
from bench.site import Site
from codesmith.bootstrap.layout import SOCKET
from codesmith.errors import CodeSmithError
from codesmith.lab import LabNode

NEAR_ROUNDS, FAR_ROUNDS = 1000, 40
RTT_MS = 50
OPENS_WITHIN_S = 20.0
BODY = b'{"jsonrpc":"2.0","id":1,"method":"node.version"}'
REQUEST = b"POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
WHAT = "raw client, node.version; `ssh -N -L` to the same socket of the same node; call by call in turns"


class Caller:
    """A raw client of one local socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def call(self) -> float:
        """Return the seconds of one call on the open connection."""
        begun = time.perf_counter()
        self._call()
        return time.perf_counter() - begun

    def reconnect_and_call(self) -> float:
        """Return the seconds of connecting and one call."""
        self.close()
        begun = time.perf_counter()
        self._open()
        self._call()
        return time.perf_counter() - begun

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(os.fspath(self._path))

    def _call(self) -> None:
        self._socket.sendall(REQUEST)
        head, data = b"", b""
        while not head or len(data) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            chunk = self._socket.recv(65536)
            if not chunk:
                raise CodeSmithError(f"{self._path} closed the connection after {data[:200]!r}")
            data += chunk
            if not head and b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
        if b'"result"' not in data:
            raise CodeSmithError(f"{self._path} answered {data[:200]!r}")


def rows(site: Site, node: LabNode) -> list[Row]:
    """Time calls at 0 ms and, through a relay, at 50 ms."""
    with _callers(site, node, "web1", node.address.host, 22) as (ours, theirs):
        near = ratio(
            "P1", "a call, 0 ms", *in_turns(NEAR_ROUNDS, ours.call, theirs.call), 1.4,
            f"kept connection; {WHAT}, {NEAR_ROUNDS} turns",
        )  # fmt: skip
    with node.relay(RTT_MS) as (host, port):
        site.enter("away", node, host, port)
        with _callers(site, node, "away", host, port) as (ours, theirs):
            kept, _ = in_turns(FAR_ROUNDS, ours.call, theirs.call)
            new, other = in_turns(FAR_ROUNDS, ours.reconnect_and_call, theirs.reconnect_and_call)
        site.inv("node.disconnect", "--node", "away").run()
    through = f"through a relay that adds {RTT_MS} ms"
    return [
        near,
        ratio("P1", f"a call, {RTT_MS} ms, beside one round trip", kept, [RTT_MS / 1000], 1.1,
              f"kept connection, {through}; beside the round trip itself; {FAR_ROUNDS} turns"),
        ratio("P1", f"a call on a new connection, {RTT_MS} ms", new, other, 0.7,
              f"connect and call, {through}; {WHAT}, {FAR_ROUNDS} turns"),
    ]  # fmt: skip


@contextmanager
def _callers(site: Site, node: LabNode, name: str, host: str, port: int) -> Iterator[tuple[Caller, Caller]]:
    """Give a raw client of our endpoint and one of OpenSSH's forwarded socket."""
    local = site.folder / f"ssh-{name}.sock"
    options = [f"UserKnownHostsFile={site.known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes",
               "BatchMode=yes", "ExitOnForwardFailure=yes"]  # fmt: skip
    argv = ["ssh", "-N", "-F", "none", "-i", str(node.address.identity), "-p", str(port), "-L", f"{local}:{SOCKET}",
            *(word for option in options for word in ("-o", option)), f"root@{host}"]  # fmt: skip
    with subprocess.Popen(argv, env=site.environment, stdin=subprocess.DEVNULL) as ssh:
        try:
            if not until(lambda: local.exists() or ssh.poll() is not None, OPENS_WITHIN_S) or ssh.poll() is not None:
                raise CodeSmithError("`ssh -L` did not open its socket")
            ours, theirs = Caller(site.endpoint(name)), Caller(local)
            yield ours, theirs
            ours.close()
            theirs.close()
        finally:
            ssh.terminate()
