"""`agent.pyz probe`: what a process in a workspace's runtime sees of its limits and its isolation."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from agent.shared import control_groups
from agent.shared.names import WORKSPACES


def main() -> int:
    """Print what this process sees, as JSON."""
    print(json.dumps(look()))
    return 0


def look() -> Dict[str, Any]:
    """Return limits, network, privileges and neighbours of this process."""
    groups = control_groups.own()
    status = dict(line.split(":", 1) for line in _lines("/proc/self/status") if ":" in line)
    return {
        "memory_bytes": control_groups.read_number(groups, "memory", "memory.max", "memory.limit_in_bytes"),
        "tasks": control_groups.read_number(groups, "pids", "pids.max"),
        "cpus": _cpus(groups),
        "interfaces": sorted(line.split(":")[0].strip() for line in _lines("/proc/net/dev") if ":" in line),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "capabilities": int(status["CapBnd"], 16),
        "own_users": sum(int(line.split()[2]) for line in _lines("/proc/self/uid_map")) < 10,
        "nesting": _can_nest(),
        "neighbours": sorted(os.listdir(WORKSPACES)),
    }


def _cpus(groups: Dict[str, str]) -> Optional[float]:
    both = (control_groups.read(groups, "cpu", "cpu.max") or "").split()
    if len(both) == 2 and both[0].isdigit():
        return int(both[0]) / int(both[1])
    quota = control_groups.read_number(groups, "cpu", "cpu.cfs_quota_us")
    period = control_groups.read_number(groups, "cpu", "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _can_nest() -> bool:
    """Return whether a process here may make a user namespace, as the sandboxes of coding agents do."""
    pid = os.fork()
    if pid == 0:
        try:
            import ctypes

            os._exit(1 if ctypes.CDLL(None).unshare(0x10000000) else 0)  # CLONE_NEWUSER
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
