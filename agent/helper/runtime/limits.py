"""Limits and lists of a sandbox that change, and limits of a runtime that runs: what it uses, what its groups show."""

from __future__ import annotations

from typing import Any, Dict, List

from agent.helper.ledger.ledger import Network
from agent.helper.runtime import sandboxes
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared import control_groups, host_lists
from agent.shared.errors import InUse, InvalidParams

# Of these the kernel's control groups keep account; what is used now may be more than a new limit.
USES = {
    "memory_bytes": ("memory", "bytes of memory", "memory.usage_in_bytes", "memory.current"),
    "tasks": ("pids", "tasks", "pids.current"),
}
IN_GROUPS = ("cpus", *USES)


def change(sandbox: Sandbox, limits: Any, network: Any, allow: Any, deny: Any, drop: Any) -> Sandbox:
    """Return a sandbox with these changes; the same ones again change nothing. InvalidParams says what is wrong."""
    if not isinstance(limits, dict):
        raise InvalidParams.of("limits", "must be an object")
    merged = {**sandbox.limits, **limits}
    lists = {name: sandboxes.parse_hosts(hosts, name) for name, hosts in (("allow", allow), ("deny", deny))}
    dropped = sandboxes.parse_hosts(drop, "drop")
    wanted = sandbox.network if network is None else network
    if any((*lists.values(), dropped)):
        wanted = _change_lists(sandbox, wanted, lists, dropped)
    return sandboxes.parse(sandbox.workspace, {name: one for name, one in merged.items() if one is not None}, wanted)


def _change_lists(sandbox: Sandbox, network: Any, lists: Dict[str, List[str]], dropped: List[str]) -> Network:
    if isinstance(network, str):
        problem = f"network of workspace {sandbox.workspace!r} is {network}, which has no lists to change"
        hint = f"inv sandbox.update {sandbox.workspace} --network list --allow HOST --restart"
        raise InUse(problem, hint=hint)
    found: Dict[str, List[str]] = {}
    for name, other in (("allow", "deny"), ("deny", "allow")):
        # A host is in one of the lists: the last word counts.
        gone = {*dropped, *lists[other]}
        found[name] = [one for one in dict.fromkeys([*network.get(name, ()), *lists[name]]) if one not in gone]
    if sum(map(len, found.values())) > host_lists.ENTRIES_MAX:
        raise InvalidParams.of("allow", f"would be more than {host_lists.ENTRIES_MAX} hosts with those that are there")
    return found


def check_use(sandbox: Sandbox, before: Sandbox, groups: Dict[str, str]) -> None:
    """Raise InUse when a runtime uses more now than a limit that changes."""
    for name, (controller, what, *files) in USES.items():
        limit = sandbox.limits.get(name)
        used = control_groups.read_number(groups, controller, *files)
        if limit is not None and limit != before.limits.get(name) and used is not None and used > limit:
            raise InUse(
                f"workspace {sandbox.workspace!r} uses {used} {what} now, which is more than {limit}",
                hint="set a higher limit, end something, or use --force: then the kernel may end something",
            )


def properties(limits: Dict[str, float], tasks_default: str) -> List[str]:
    """Return the properties of a service with these limits and no others, for a service that had some already."""
    memory, tasks, cpus = (limits.get(name) for name in ("memory_bytes", "tasks", "cpus"))
    return [
        f"MemoryMax={'infinity' if memory is None else format(memory, '.0f')}",
        f"MemorySwapMax={'infinity' if memory is None else 0}",
        f"CPUQuota={'' if cpus is None else format(cpus * 100, '.0f') + '%'}",
        f"TasksMax={tasks_default if tasks is None else format(tasks, '.0f')}",
    ]


def seen(limits: Dict[str, float], groups: Dict[str, str]) -> Dict[str, bool]:
    """Return which of these limits the control groups of a runtime show."""
    found = {
        "memory_bytes": control_groups.read_number(groups, "memory", "memory.max", "memory.limit_in_bytes"),
        "tasks": control_groups.read_number(groups, "pids", "pids.max"),
        "cpus": control_groups.read_cpus(groups),
    }
    slack = {"cpus": 1.01}
    return {
        name: there is not None and there <= limits[name] * slack.get(name, 1)
        for name, there in found.items()
        if name in limits
    }
