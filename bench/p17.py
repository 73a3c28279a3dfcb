"""P17: what running workspaces cost: memory of each, and the time of a command beside many."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.clock import in_turns
from bench.p8 import memory_mb
from bench.raw_client import Caller
from bench.row import Row, limit, ratio
from bench.site import Site

WORKSPACES, ROUNDS = 100, 40
EACH_MB = 9.0


def rows(site: Site) -> list[Row]:
    """Run a command on a node with one running workspace and on a node with many, in turns."""
    few, many = (
        Caller(_endpoint(site, name), "workspace.exec", name="many1", argv=["true"]) for name in ("web1", "many")
    )
    few.call()
    node = site.node("many")
    site.on(node, "start_runtimes.py", WORKSPACES)
    beside, alone = in_turns(ROUNDS, many.call, few.call)
    for caller in (few, many):
        caller.close()
    units = [f"codesmith-workspace@many{number}.service" for number in range(1, WORKSPACES + 1)]
    rss, pss = (statistics.mean(one) for one in zip(*(memory_mb(node.unit_pid(unit)) for unit in units), strict=True))
    return [
        limit("P17", "a running workspace", pss, EACH_MB, "MB",
              f"PSS of its supervisor, idle after one command, mean of {WORKSPACES} (VmRSS {rss:.1f})"),
        ratio("P17", f"exec beside {WORKSPACES} running", beside, alone, 1.2,
              "workspace.exec of `true`, raw client on a kept connection; the same on a node where one is running; "
              f"{ROUNDS} turns"),
    ]  # fmt: skip


def _endpoint(site: Site, name: str) -> Path:
    """Return the endpoint of a node with the workspace many1; the node is booted if need be."""
    if not site.has(name):
        site.boot(name)
        site.inv("node.prepare", "--node", name, proof="prepared").run()
    site.inv("workspace.create", "many1", "--node", name, proof="many1").run()
    return site.endpoint(name)
