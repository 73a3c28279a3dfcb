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
    found = compare(site, "web1", ("P3", "create, 0 ms", WHAT), NEAR)
    with node.relay(RTT_MS) as address:
        site.enter("away", node, *address)
        found += compare(site, "away", ("P3", f"create, {RTT_MS} ms", WHAT), FAR)
        site.inv("node.disconnect", "--node", "away").run()
    return found


def compare(
    site: Site, name: str, told: tuple[str, str, str], targets: tuple[float, float, float], *,
    prefix: str = "", before: Callable[[], object] = lambda: None, rounds: tuple[int, int] = (ROUNDS, ANSIBLE_ROUNDS),
) -> list[Row]:  # fmt: skip
    """Time `inv workspace.create` beside ansible, pyinfra and stock Fabric; `before` precedes each of ours, untimed.

    `told` is the id, the name and the description of the rows; `prefix` begins the names that are made (default: the
    node's).
    """
    commands, number = Commands(site, [name]), itertools.count(1)
    site.inv("node.connect", "--node", name).run()

    def fresh(make: Callable[[str], Command]) -> Callable[[], float]:
        return lambda: make(f"{prefix or name}-{next(number)}").run()

    ours_now = fresh(lambda login: commands.inv("workspace.create", login, proof=login))

    def create() -> float:
        before()
        return ours_now()

    fabric = fresh(lambda login: commands.fabric("fabric_workspace.py", login, proof="made"))
    pyinfra = fresh(
        lambda login: commands.pyinfra("pyinfra_workspace.py", proof="Grand total 2 2 -", BENCH_LOGIN=login)
    )
    ansible = fresh(lambda login: commands.ansible("ansible_workspace.yml", proof="changed=2", BENCH_LOGIN=login))

    def cold_ansible() -> float:
        took = ansible()
        commands.end_masters()
        return took

    ours, script, deploy = in_turns(rounds[0], create, fabric, pyinfra)
    again, playbook = in_turns(rounds[1], create, cold_ansible)
    row_id, what, compared = told
    pipelining = f"{compared}; with pipelining, facts not gathered"
    four = f"{compared}; one connection, four commands"
    return [
        ratio(row_id, f"{what}, beside ansible", again, playbook, targets[0], pipelining),
        ratio(row_id, f"{what}, beside pyinfra", ours, deploy, targets[1], compared),
        ratio(row_id, f"{what}, beside stock Fabric", ours, script, targets[2], four),
    ]
