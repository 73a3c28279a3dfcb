"""What the control groups say of the runtimes; looking starts nothing."""

from __future__ import annotations

import functools
import os
from typing import Any, Dict, Optional

from agent.contract.records.workspace import Runtime
from agent.shared import control_groups
from agent.shared.names import unit_of


def is_running(workspace: str) -> bool:
    """Return whether anything runs in a workspace."""
    return state_of(workspace) == "running"


def state_of(workspace: str) -> str:
    """Return stopped, starting (systemd is making its namespaces) or running."""
    groups = _groups(workspace)
    if control_groups.processes(groups):
        return "running"
    return "starting" if os.path.isdir(groups.get(control_groups.SYSTEMD, groups.get("", ""))) else "stopped"


def describe(workspace: str, status: Optional[Dict[str, Any]] = None) -> Runtime:
    """Return the record of a runtime; `status` is what its supervisor says."""
    known = status or {}
    state: Any = state_of(workspace)
    return {"state": state, "since": known.get("since"), "idle_stop_at": known.get("idle_stop_at")}


def usage(workspace: str) -> Dict[str, Any]:
    """Return what a runtime uses now; zero, and no limit, when it is stopped."""
    groups = _groups(workspace)
    number = functools.partial(control_groups.read_number, groups)
    cpu_us = control_groups.read_field(groups, "", "usage_usec", "cpu.stat")
    cpu_ns = number("cpuacct", "cpuacct.usage")
    return {
        "memory_bytes": number("memory", "memory.usage_in_bytes", "memory.current") or 0,
        "memory_peak_bytes": number("memory", "memory.max_usage_in_bytes", "memory.peak"),
        "memory_limit_bytes": number("memory", "memory.limit_in_bytes", "memory.max"),
        "cpu_s": round((cpu_ns or 0) / 1e9 or (cpu_us or 0) / 1e6, 3),
        "tasks": number("pids", "pids.current") or 0,
    }


def _groups(workspace: str) -> Dict[str, str]:
    return control_groups.of_unit(unit_of(workspace, "service"))
