"""What the lab needs of this machine, checked before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from codesmith.errors import Unsupported
from codesmith.lab.programs import PATH

# Program -> Debian package.
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
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def missing_tools() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in TOOLS if shutil.which(name, path=PATH) is None]


def missing_packages() -> list[str]:
    """Return the Debian packages that bring the programs that are not installed."""
    return sorted({TOOLS[name] for name in missing_tools()})


def check() -> None:
    """Raise Unsupported with the next step if nodes cannot run here."""
    if os.geteuid() != 0:
        raise Unsupported("the lab needs root: it mounts disks and makes network namespaces", hint="sudo -E inv lab.up")
    tools = missing_tools()
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
