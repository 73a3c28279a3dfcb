"""What the lab needs of this machine; it is checked before anything is made."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from codesmith.errors import Unsupported
from codesmith.lab.programs import PATH

# The Debian package of each program.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
}
# Inotify instances that a node with two logins uses; root usually has 128.
INOTIFY_PER_NODE = 15
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 8192
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def missing(tools: Iterable[str]) -> list[str]:
    """Return the names of those programs that are not installed."""
    return [name for name in tools if shutil.which(name, path=PATH) is None]


def missing_packages() -> list[str]:
    """Return the Debian packages of the programs that are not installed."""
    return sorted({TOOLS[name] for name in missing(TOOLS)})


def check() -> None:
    """Raise Unsupported, with the next step as its hint, if nodes cannot run here."""
    if os.geteuid() != 0:
        raise Unsupported("the lab needs root: it mounts disks and makes network namespaces", hint="sudo -E inv lab.up")
    tools = missing(TOOLS)
    if tools:
        packages = " ".join(missing_packages())
        raise Unsupported(
            f"the lab needs programs that are not installed: {', '.join(tools)}",
            hint=f"sudo apt-get update && sudo apt-get install {packages}",
        )
    lacking = [name for name in NAMESPACES if not Path("/proc/self/ns", name).exists()]
    if lacking:
        raise Unsupported(f"this kernel has no {', '.join(lacking)} namespace, which a lab node needs")
    if "overlay" not in Path("/proc/filesystems").read_text():
        raise Unsupported("this kernel has no overlay file system loaded", hint="sudo modprobe overlay")


def ensure_inotify() -> None:
    """Ensure that another node gets its inotify instances: raise the kernel's limit, until the next reboot, if needed.

    All nodes share them. When they run out, units fail at random and sshd may not start. Unsupported if the limit
    cannot be raised.
    """
    if _has_inotify():
        return
    if int(INOTIFY_LIMIT.read_text()) < INOTIFY_INSTANCES and os.access(INOTIFY_LIMIT, os.W_OK):
        INOTIFY_LIMIT.write_text(str(INOTIFY_INSTANCES))
        sys.stderr.write(f"lab: fs.inotify.max_user_instances is {INOTIFY_INSTANCES} now, for more nodes at once\n")
    if not _has_inotify():
        raise Unsupported(
            "too many nodes at once: this kernel has no inotify instances left for another one",
            hint=f"sudo sysctl --write fs.inotify.max_user_instances={2 * INOTIFY_INSTANCES}",
        )


def _has_inotify() -> bool:
    libc = ctypes.CDLL(None)
    opened = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(INOTIFY_PER_NODE)]
    for descriptor in opened:
        if descriptor >= 0:
            os.close(descriptor)
    return -1 not in opened
