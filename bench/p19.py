"""P19: two hundred endpoints in one forwarder: a list of all, memory, and how they come back after a network cut."""

from __future__ import annotations

import json
import subprocess
import time

from bench.clock import in_turns, until
from bench.p8 import memory_mb
from bench.row import Row, limit, ratio
from bench.site import TOP, Site, each
from codesmith.errors import CodeSmithError
from codesmith.lab import LabNode

ENDPOINTS, ROUNDS = 200, 5
SLOW_RTT_MS = 200
MEMORY_MB, BACK_S = 70.0, 30.0
NOTICED_WITHIN_S, WAITED_S = 180.0, 120.0
OTHERS = ("fleet2", "fleet3", "fleet4")
SLOW = "slow"
REFUSALS = "journalctl --quiet --unit=ssh --since=@{since} | grep -c 'past MaxStartups' || true"


def rows(site: Site, node: LabNode) -> list[Row]:
    """Give four nodes fifty names each, one of them far away, and measure all two hundred."""
    names = names_of_four_nodes(site, node, ENDPOINTS - 1)
    nodes = [node, *map(site.node, OTHERS)]
    with node.relay(SLOW_RTT_MS) as address:
        site.enter(SLOW, node, *address)
        all_ = each([*names, SLOW])
        site.inv("node.connect", *all_).run()
        site.inv("node.version", *all_, "--json", proof='"build"').run()
        memory, pss = memory_mb(site.forwarder_pid)
        ours, slowest = in_turns(
            ROUNDS, site.inv("workspace.list", *all_, "--json").run, site.inv("workspace.list", "--node", SLOW).run
        )
        back_s, refusals = _cut(site, nodes)
        site.inv("node.disconnect", *all_).run()
    what = f"{ENDPOINTS} endpoints of {len(nodes)} nodes, in one forwarder"
    return [
        ratio("P19", f"list of {ENDPOINTS} nodes, beside the slowest one", ours, slowest, 1.3,
              f"`inv workspace.list` of {what}, one of which is {SLOW_RTT_MS} ms away; of that one alone; whole "
              f"processes, {ROUNDS} turns"),
        limit("P19", f"forwarder, {ENDPOINTS} endpoints", memory, MEMORY_MB, "MB",
              f"VmRSS, each endpoint up and called once (PSS {pss:.1f})"),
        limit("P19", "all back after a network cut", back_s, BACK_S, "s",
              f"from the return of the network of all nodes until `inv node.status` has all {ENDPOINTS} ready"),
        limit("P19", "connections that sshd refused", refusals, 0, "refusals",
              "lines of sshd about MaxStartups meanwhile, with Debian's configuration"),
    ]  # fmt: skip


def names_of_four_nodes(site: Site, node: LabNode, count: int) -> list[str]:
    """Return so many names of four prepared nodes, in nodes.yaml; the other three are booted only once."""
    if not site.has(OTHERS[0]):
        site.boot(*OTHERS)
        site.inv("node.prepare", *each(OTHERS), proof="prepared").run()
    nodes = [node, *map(site.node, OTHERS)]
    names = [f"e{number:03}" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        one = nodes[number % len(nodes)]
        if not site.has(name):
            site.enter(name, one, one.address.host, 22)
    return names


def _cut(site: Site, nodes: list[LabNode]) -> tuple[float, int]:
    """Cut all nodes off until no endpoint is ready; return how long all took to come back, and what sshds refused."""
    since = int(time.time())
    for node in nodes:
        node.cut_network()
    try:
        is_noticed = until(lambda: _ready(site) == 0, NOTICED_WITHIN_S)
    finally:
        for node in nodes:
            node.restore_network()
    begun = time.monotonic()
    if not is_noticed:
        raise CodeSmithError(f"{_ready(site)} endpoints were still ready {NOTICED_WITHIN_S:.0f} s after the cut")
    until(lambda: _ready(site) >= ENDPOINTS, WAITED_S)
    back_s = time.monotonic() - begun
    script = ["sh", "-c", REFUSALS.format(since=since)]
    return back_s, sum(int(node.run(script, input="").stdout or 0) for node in nodes)


def _ready(site: Site) -> int:
    """Return how many of these endpoints are ready."""
    done = subprocess.run(site.inv("node.status", "--json").argv, cwd=TOP, env=site.environment, capture_output=True,
                          check=True)  # fmt: skip
    rows_ = [row for row in json.loads(done.stdout) if row["name"] == SLOW or row["name"].startswith("e")]
    return sum(row["state"] == "ready" for row in rows_)
