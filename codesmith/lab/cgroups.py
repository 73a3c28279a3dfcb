"""One control group per node in every hierarchy: limits hold inside it, and its processes can be found and killed.

Without it all nodes would share the group `/payload`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

GROUP = "codesmith-lab"
# The v1 controllers that systemd uses.
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "devices", "blkio")


def hierarchies() -> list[Path]:
    """Return the mounted hierarchies that a node gets: cgroup2, the controllers of v1, and systemd's own."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        words = options.split(",")
        if kind == "cgroup2" or (kind == "cgroup" and ("name=systemd" in words or set(words) & set(CONTROLLERS))):
            found.append(Path(place))
    return found


def legacy_controllers() -> list[Path]:
    """Return the v1 controllers, which nspawn mounts read-only in the node."""
    return [place for place in hierarchies() if not (place / "cgroup.controllers").exists() and place.name != "systemd"]


def make(node_id: str) -> list[Path]:
    """Make the node's groups; return their cgroup.procs files. A process joins a group by writing 0 to its file."""
    joins = []
    for top in hierarchies():
        place = top / GROUP / node_id
        place.mkdir(parents=True, exist_ok=True)
        _enable_controllers(top)
        joins.append(place / "cgroup.procs")
    return joins


def _enable_controllers(top: Path) -> None:
    """Enable the controllers of a cgroup2 hierarchy for the nodes' groups; nspawn does the rest."""
    listed = top / "cgroup.controllers"
    for name in listed.read_text().split() if listed.exists() else []:
        for place in (top, top / GROUP):
            # Nodes do without a controller that cannot be enabled.
            with contextlib.suppress(OSError):
                (place / "cgroup.subtree_control").write_text(f"+{name}")


def pids(node_id: str) -> set[int]:
    """Return the pids of the node's processes, as this machine numbers them."""
    found: set[int] = set()
    for place in _groups(node_id):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (place / "cgroup.procs").read_text().split()}
    return found - {0}


def kill(node_id: str, timeout_s: float = 20) -> None:
    """Kill every process of the node and wait until the last one has ended; TimeoutError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while left := pids(node_id):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of {node_id} do not end: {sorted(left)}")
        time.sleep(0.005)


def remove(node_id: str, timeout_s: float = 10) -> None:
    """Remove the node's groups; TimeoutError after `timeout_s`. A group stays busy for a moment after its processes."""
    deadline = time.monotonic() + timeout_s
    while left := list(_groups(node_id)):
        for place in left:
            with contextlib.suppress(OSError):
                place.rmdir()
        if time.monotonic() > deadline:
            raise TimeoutError(f"control groups of {node_id} stay busy: {left[0]}")
    for top in hierarchies():
        # It fails while there are other nodes.
        with contextlib.suppress(OSError):
            (top / GROUP).rmdir()


def _groups(node_id: str) -> Iterator[Path]:
    """Yield the node's groups, children first."""
    for top in hierarchies():
        for place, _, _ in os.walk(top / GROUP / node_id, topdown=False):
            yield Path(place)
