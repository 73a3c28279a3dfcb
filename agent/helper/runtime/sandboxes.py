"""Sandboxes: the limits and the network of a workspace's runtime, and what a look from inside must see of them.

A sandbox becomes properties of the runtime's service. Whether the node enforces them depends on its kernel and control
groups, so a service of its own, the probe, first reads its own limits and reports them.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple

from agent.helper.ledger.ledger import Network
from agent.helper.runtime import proxies, quota_support
from agent.shared import host_lists
from agent.shared.errors import InvalidParams, Unsupported

MEMORY_BYTES_MIN, DISK_BYTES_MIN = 16 << 20, 1 << 20
LIMITS: Dict[str, type] = {"cpus": float, "disk_bytes": int, "memory_bytes": int, "runtime_s": float, "tasks": int}
NETWORKS = ("full", "none")
LISTS = ("allow", "deny")


class Sandbox(NamedTuple):
    """The limits and the network of one workspace's runtime."""

    workspace: str
    limits: Dict[str, float]
    network: Network

    @property
    def mode(self) -> str:
        """The mode of its network: full, none or list."""
        return self.network if isinstance(self.network, str) else "list"

    def properties(self) -> List[str]:
        """Return the properties of the runtime's service that enforce its limits, and network `none`."""
        properties = ["PrivateNetwork=yes"] if self.network == "none" else []
        if "memory_bytes" in self.limits:
            # Swap would make the limit soft.
            properties += [f"MemoryMax={self.limits['memory_bytes']:.0f}", "MemorySwapMax=0"]
        if "cpus" in self.limits:
            properties.append(f"CPUQuota={self.limits['cpus'] * 100:.0f}%")
        if "tasks" in self.limits:
            properties.append(f"TasksMax={self.limits['tasks']:.0f}")
        return properties


def parse(workspace: str, limits: Any, network: Any) -> Sandbox:
    """Return the sandbox that the arguments describe; InvalidParams names the argument that is wrong.

    Unsupported for a limit of the disk where the file system has no project quotas.
    """
    network = parse_network(network)
    if not isinstance(limits, dict):
        raise InvalidParams.of("limits", "must be an object")
    for name, value in limits.items():
        kind = LIMITS.get(name)
        if kind is None:
            raise InvalidParams.of("limits", f"{name[:32]!r} is none of {', '.join(LIMITS)}")
        allowed = (int,) if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value < math.inf:
            raise InvalidParams.of(f"limits.{name}", f"must be a {'whole ' if kind is int else ''}number above 0")
    if limits.get("memory_bytes", MEMORY_BYTES_MIN) < MEMORY_BYTES_MIN:
        raise InvalidParams.of("limits.memory_bytes", f"must be at least {MEMORY_BYTES_MIN}: no program starts in less")
    if limits.get("disk_bytes", DISK_BYTES_MIN) < DISK_BYTES_MIN:
        raise InvalidParams.of("limits.disk_bytes", f"must be at least {DISK_BYTES_MIN}")
    if "disk_bytes" in limits:
        quota_support.device_of(workspace)
    return Sandbox(workspace, limits, network)


def parse_network(network: Any) -> Network:
    """Return a network with its lists in the one spelling of their hosts; InvalidParams names the entry that is wrong.

    Unsupported for lists on a node with a proxy of its own: behind it nobody can check which address is reached.
    """
    if isinstance(network, str) and network in NETWORKS:
        return network
    if not isinstance(network, dict) or "allow" not in network or set(network) - set(LISTS):
        raise InvalidParams.of("network", f"must be {', '.join(NETWORKS)} or {{allow, deny}}")
    lists = {name: parse_hosts(network.get(name, []), f"network.{name}") for name in LISTS}
    if sum(map(len, lists.values())) > host_lists.ENTRIES_MAX:
        raise InvalidParams.of("network", f"must be at most {host_lists.ENTRIES_MAX} hosts")
    upstream = proxies.upstream()
    if upstream:
        raise Unsupported(
            f"this node reaches the network by a proxy ({upstream} in {' or '.join(proxies.FILES)}): what is behind it "
            "cannot be checked",
            hint="ask for network full or none",
        )
    return lists


def parse_hosts(hosts: Any, field: str) -> List[str]:
    """Return hosts in the one spelling of them, each once; InvalidParams names the entry that is wrong."""
    if not isinstance(hosts, list) or len(hosts) > host_lists.ENTRIES_MAX:
        raise InvalidParams.of(field, f"must be a list of at most {host_lists.ENTRIES_MAX} hosts")
    found: Dict[str, None] = {}
    for number, host in enumerate(hosts):
        try:
            found[host_lists.parse(host).text] = None
        except ValueError as error:
            raise InvalidParams.of(f"{field}[{number}]", str(error)) from None
    return list(found)


def check_enforced(sandbox: Sandbox, probe: Dict[str, Any]) -> Dict[str, bool]:
    """Return which limits the node enforces, from what the probe read; Unsupported names those that it does not."""
    limits = sandbox.limits
    enforced = {
        "files": probe["neighbours"] == [sandbox.workspace],
        "privileges": bool(probe["no_new_privileges"]) and probe["capabilities"] == 0 and bool(probe["own_users"]),
    }
    for name in ("memory_bytes", "tasks"):
        if name in limits:
            enforced[name] = probe[name] is not None and probe[name] <= limits[name]
    if "cpus" in limits:
        enforced["cpus"] = probe["cpus"] is not None and probe["cpus"] <= limits["cpus"] * 1.01
    if "runtime_s" in limits:
        enforced["runtime_s"] = True  # a timer of the supervisor; it needs no support by the kernel
    if sandbox.network == "none":
        enforced["network"] = probe["interfaces"] in ([], ["lo"])
    if sandbox.mode == "list":
        enforced["network"] = probe["interfaces"] == ["lo"] and probe["proxy"] is True and probe["direct"] is False
    missing = sorted(name for name, holds in enforced.items() if not holds)
    if missing:
        raise Unsupported(
            f"this node cannot enforce: {', '.join(missing)}",
            hint="ask for less, or see `inv node.info`",
            enforced=enforced,
        )
    # Not asked for, so nothing to refuse: without it the sandboxes of coding agents do not start in the workspace.
    return {**enforced, "nesting": bool(probe["nesting"])}
