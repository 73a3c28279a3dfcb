"""Whether the file system of the workspaces has project quotas, and what it lacks."""

from __future__ import annotations

import os
from typing import Dict, NamedTuple, Tuple

from agent.shared.errors import Unsupported
from agent.shared.names import BASE, HOMES, WORKSPACES

KINDS = ("ext4", "xfs")
OPTION = "prjquota"
MOUNTS = "/proc/self/mountinfo"
MOUNT_IT = {
    "ext4": f"unmounted: tune2fs -O project,quota -Q {OPTION} DEVICE; then mount it with the option {OPTION}",
    "xfs": f"mount it with the option {OPTION}",
}


class FileSystem(NamedTuple):
    """What a device is mounted as."""

    kind: str
    options: Tuple[str, ...]


def device_of(workspace: str) -> str:
    """Return the device that all workspaces are on; Unsupported says what it lacks for a limit of this one."""
    homes, workspaces = (os.stat(place).st_dev for place in (HOMES, WORKSPACES))
    if homes != workspaces:
        raise refusal(workspace, f"{HOMES} and {WORKSPACES} are on two file systems")
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        mounts = read_mounts(file.read())
    device = f"{os.major(workspaces)}:{os.minor(workspaces)}"
    found = mounts.get(device, FileSystem("another kind of file system", ()))
    if found.kind not in KINDS:
        raise refusal(workspace, f"{BASE} is on {found.kind}, and project quotas need ext4 or xfs")
    if OPTION not in found.options:
        problem = f"{BASE} is on {found.kind}, mounted without {OPTION}"
        raise refusal(workspace, problem, f"on the node, and in its /etc/fstab: {MOUNT_IT[found.kind]}")
    return f"/dev/block/{device}"


def read_mounts(text: str) -> Dict[str, FileSystem]:
    """Return the file systems in a text of /proc/PID/mountinfo, by number of their device."""
    found: Dict[str, FileSystem] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ")[:3]
        found[left.split(" ")[2]] = FileSystem(kind, tuple(options.split(",")))
    return found


def refusal(workspace: str, why: str, hint: str = "") -> Unsupported:
    """Return the error for a limit of a workspace's disk that the node cannot enforce."""
    problem = f"this node cannot enforce: disk_bytes ({why})"
    return Unsupported(problem, hint=hint or f"watch it: inv workspace.usage {workspace}")
