"""P1: a call over the forwarded socket, beside OpenSSH's `-L` to the same agent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.clock import in_turns, until
from bench.raw_client import Caller
from bench.row import Row, ratio
from bench.site import Site
from codesmith.bootstrap.layout import SOCKET
from codesmith.errors import CodeSmithError
from codesmith.lab import LabNode

NEAR_ROUNDS, FAR_ROUNDS = 1000, 40
RTT_MS = 50
OPENS_WITHIN_S = 20.0
WHAT = "raw client, node.version; `ssh -N -L` to the same socket of the same node; call by call in turns"


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
