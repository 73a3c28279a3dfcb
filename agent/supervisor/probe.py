"""`agent.pyz probe`: what a process in a workspace's runtime sees of its limits and its isolation."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Dict, List

from agent.shared import control_groups
from agent.shared.egress_paths import PORT
from agent.shared.names import WORKSPACES

# Of documentation (RFC 5737): nobody has it.
OUTSIDE = "203.0.113.1"
PROXY_S = 10.0


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
        "cpus": control_groups.read_cpus(groups),
        "interfaces": sorted(line.split(":")[0].strip() for line in _lines("/proc/net/dev") if ":" in line),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "capabilities": int(status["CapBnd"], 16),
        "own_users": sum(int(line.split()[2]) for line in _lines("/proc/self/uid_map")) < 10,
        "nesting": _can_nest(),
        "neighbours": sorted(os.listdir(WORKSPACES)),
        "proxy": _has_proxy(),
        "direct": _reaches(OUTSIDE),
    }


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


def _has_proxy() -> bool:
    """Return whether a proxy answers here, and refuses what nobody may reach: this host's own loopback."""
    try:
        with socket.create_connection(("127.0.0.1", PORT), PROXY_S) as connection:
            connection.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
            return connection.recv(12).endswith(b" 403")
    except OSError:
        return False


def _reaches(address: str) -> bool:
    """Return whether there is a way to an address, by the routes of this process; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect((address, 9))
        except OSError:
            return False
        return True


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
