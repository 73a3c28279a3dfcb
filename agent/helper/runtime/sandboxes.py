"""Sandboxes: the limits of a workspace's jobs, and the look from inside that proves them.

What a sandbox asks for becomes properties of the unit of each job. Whether they hold depends on the kernel and control
groups of the node, so a first job looks at itself and says.
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

# Runs inside a job, as the workspace's login, by the node's own Python. Control groups: cgroups(7), v2 and v1.
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
    """What the jobs of one workspace are held to."""

    workspace: str
    limits: Dict[str, float]
    network: str

    def properties(self) -> List[str]:
        """Return the unit properties of a job in it."""
        given = self.limits
        found = ["PrivateNetwork=yes"] if self.network == "none" else []
        if "memory_bytes" in given:
            # Swap would make the limit soft. OOMPolicy=kill, which all jobs have, ends the whole job.
            found += [f"MemoryMax={given['memory_bytes']:.0f}", "MemorySwapMax=0"]
        if "cpus" in given:
            found.append(f"CPUQuota={given['cpus'] * 100:.0f}%")
        if "tasks" in given:
            found.append(f"TasksMax={given['tasks']:.0f}")
        return found


def parse(workspace: str, limits: Any, network: Any) -> Sandbox:
    """Return the sandbox that the arguments describe; InvalidParams otherwise."""
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


def judge(sandbox: Sandbox, seen: Dict[str, Any]) -> Dict[str, bool]:
    """Compare what a job saw of itself with what was asked for; Unsupported names what does not hold."""
    given = sandbox.limits
    enforced = {
        "files": seen["neighbours"] == [sandbox.workspace],
        "privileges": bool(seen["no_new_privileges"]) and seen["capabilities"] == 0 and bool(seen["own_users"]),
    }
    for name in ("memory_bytes", "tasks"):
        if name in given:
            enforced[name] = seen[name] is not None and seen[name] <= given[name]
    if "cpus" in given:
        enforced["cpus"] = seen["cpus"] is not None and seen["cpus"] <= given["cpus"] * 1.01
    if "runtime_s" in given:
        enforced["runtime_s"] = True  # RuntimeMaxSec= is systemd's own clock: it needs nothing of the kernel
    if sandbox.network == "none":
        enforced["network"] = seen["interfaces"] in ([], ["lo"])
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
        seen = json.loads(execution["stdout"])
    except ValueError:
        seen = None
    if execution["exit_code"] != 0 or not isinstance(seen, dict):
        sys.stderr.write(f"sandbox probe: {execution}\n")
        raise CommandFailed(
            "a job in the sandbox did not start", command="systemd-run", exit_code=execution["exit_code"],
            stderr=execution["stderr"][-2000:],
        )  # fmt: skip
    return seen


def runtime_s(sandbox: Optional[Sandbox], timeout_s: float) -> float:
    """Return the shorter of what the caller and the sandbox allow."""
    return min(timeout_s, sandbox.limits.get("runtime_s", timeout_s)) if sandbox else timeout_s
