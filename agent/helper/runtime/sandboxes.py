"""Sandboxes: the limits of a workspace's jobs, and the probe that proves them from inside.

A sandbox becomes properties of each job's unit. Whether the node enforces them depends on its kernel and control
groups, so a first job, the probe, reads its own limits and reports them.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from agent.shared.errors import CommandFailed, InvalidParams, Unsupported

MEMORY_BYTES_MIN = 16 << 20
LIMITS: Dict[str, type] = {"cpus": float, "memory_bytes": int, "runtime_s": float, "tasks": int}
NETWORKS = ("full", "none")

# Runs in a job, as the workspace's login, with the node's own Python. Control groups: cgroups(7), v2 and v1.
PROBE = r"""
import json, os
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
def limits(controller, *names):
    found = []
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] if not controllers else []
        roots = ["/sys/fs/cgroup/" + controllers] if controller in controllers.split(",") else roots
        found += [read(root + path.rstrip("/") + "/" + name).split() for root in roots for name in names]
    return [words for words in found if words and words[0].isdigit()]
def share():
    for words in limits("cpu", "cpu.max"):
        return int(words[0]) / int(words[1])
    quota, period = limits("cpu", "cpu.cfs_quota_us"), limits("cpu", "cpu.cfs_period_us")
    return int(quota[0][0]) / int(period[0][0]) if quota and period else None
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines() if ":" in line)
memory = limits("memory", "memory.max", "memory.limit_in_bytes")
tasks = limits("pids", "pids.max")
print(json.dumps({
    "memory_bytes": int(memory[0][0]) if memory else None,
    "tasks": int(tasks[0][0]) if tasks else None,
    "cpus": share(),
    "interfaces": sorted(line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines() if ":" in line),
    "no_new_privileges": status["NoNewPrivs"].strip() == "1",
    "capabilities": int(status["CapBnd"], 16),
    "own_users": sum(int(line.split()[2]) for line in read("/proc/self/uid_map").splitlines()) < 10,
    "neighbours": sorted(os.listdir("/srv/codesmith/workspaces")),
}))
"""


class Sandbox(NamedTuple):
    """The limits and the network (full or none) of one workspace's jobs."""

    workspace: str
    limits: Dict[str, float]
    network: str

    def properties(self) -> List[str]:
        """Return the properties of a job's unit that enforce it."""
        properties = ["PrivateNetwork=yes"] if self.network == "none" else []
        if "memory_bytes" in self.limits:
            # Swap would make the limit soft. OOMPolicy=kill, which all jobs have, ends the whole job.
            properties += [f"MemoryMax={self.limits['memory_bytes']:.0f}", "MemorySwapMax=0"]
        if "cpus" in self.limits:
            properties.append(f"CPUQuota={self.limits['cpus'] * 100:.0f}%")
        if "tasks" in self.limits:
            properties.append(f"TasksMax={self.limits['tasks']:.0f}")
        return properties


def parse(workspace: str, limits: Any, network: Any) -> Sandbox:
    """Return the sandbox that the arguments describe; InvalidParams names the argument that is wrong."""
    if network not in NETWORKS:
        raise InvalidParams.of("network", f"must be one of {', '.join(NETWORKS)}")
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
    return Sandbox(workspace, limits, network)


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
        enforced["runtime_s"] = True  # RuntimeMaxSec= is a timer of systemd; it needs no support by the kernel
    if sandbox.network == "none":
        enforced["network"] = probe["interfaces"] in ([], ["lo"])
    missing = sorted(name for name, holds in enforced.items() if not holds)
    if missing:
        raise Unsupported(
            f"this node cannot enforce: {', '.join(missing)}",
            hint="ask for less, or see `inv node.info`",
            enforced=enforced,
        )
    return enforced


def read_probe(execution: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the probe printed; CommandFailed when it did not run."""
    try:
        probe = json.loads(execution["stdout"])
    except ValueError:
        probe = None
    if execution["exit_code"] != 0 or not isinstance(probe, dict):
        sys.stderr.write(f"sandbox probe: {execution}\n")
        raise CommandFailed(
            "a job in the sandbox did not start", command="systemd-run", exit_code=execution["exit_code"],
            stderr=execution["stderr"][-2000:],
        )  # fmt: skip
    return probe


def runtime_s(sandbox: Optional[Sandbox], timeout_s: float) -> float:
    """Return the time limit of a job in seconds: the caller's, or the sandbox's if that is shorter."""
    return min(timeout_s, sandbox.limits.get("runtime_s", timeout_s)) if sandbox else timeout_s
