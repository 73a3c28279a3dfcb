"""P3: workspace.create over a live endpoint, beside peers that make a user and a directory over SSH."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from bench.clock import Command, in_turns
from bench.commands import Commands
from bench.row import Row, ratio
from bench.site import Site
from codesmith.lab import LabNode

ROUNDS, ANSIBLE_ROUNDS = 7, 3
RTT_MS = 50
# The targets beside ansible, pyinfra and stock Fabric, at 0 ms and at 50 ms.
NEAR, FAR = (0.15, 0.25, 0.6), (0.10, 0.10, 0.25)
WHAT = (
    "`inv workspace.create` over a live endpoint; a user and a 0700 directory of its own; whole processes, fresh names"
)


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure at 0 ms, then through a relay."""
    found = _compare(site, "web1", "0 ms", NEAR)
    with node.relay(RTT_MS) as address:
        site.enter("away", node, *address)
        found += _compare(site, "away", f"{RTT_MS} ms", FAR)
        site.inv("node.disconnect", "--node", "away").run()
    return found


def _compare(site: Site, name: str, where: str, targets: tuple[float, float, float]) -> list[Row]:
    commands, number = Commands(site, [name]), itertools.count(1)
    site.inv("node.connect", "--node", name).run()

    def fresh(make: Callable[[str], Command]) -> Callable[[], float]:
        return lambda: make(f"{name}-{next(number)}").run()

    create = fresh(lambda login: commands.inv("workspace.create", login, proof=login))
    fabric = fresh(lambda login: commands.fabric("fabric_workspace.py", login, proof="made"))
    pyinfra = fresh(
        lambda login: commands.pyinfra("pyinfra_workspace.py", proof="Grand total 2 2 -", BENCH_LOGIN=login)
    )
    ansible = fresh(lambda login: commands.ansible("ansible_workspace.yml", proof="changed=2", BENCH_LOGIN=login))

    def cold_ansible() -> float:
        took = ansible()
        commands.end_masters()
        return took

    ours, script, deploy = in_turns(ROUNDS, create, fabric, pyinfra)
    again, playbook = in_turns(ANSIBLE_ROUNDS, create, cold_ansible)
    what = f"create, {where}, beside"
    return [
        ratio("P3", f"{what} ansible", again, playbook, targets[0], f"{WHAT}; with pipelining, facts not gathered"),
        ratio("P3", f"{what} pyinfra", ours, deploy, targets[1], WHAT),
        ratio("P3", f"{what} stock Fabric", ours, script, targets[2], f"{WHAT}; one connection, four commands"),
    ]
