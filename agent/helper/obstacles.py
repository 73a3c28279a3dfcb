"""What node's root can put in the way: a tree that another file system is mounted in, or that is marked immutable.

Looked for before a deletion or an assignment changes anything. What comes later is refused by the kernel: a mount point
is neither renamed nor removed, so nothing below it is ever touched.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import shlex
from typing import Iterator

from agent.errors import CommandFailed, InUse
from agent.helper import trees

# FS_IOC_GETFLAGS and its bits for "append only" and "immutable", from linux/fs.h.
GET_FLAGS, FIXED = 0x80086601, 0x30


def refuse(parent: str, name: str) -> None:
    """Refuse a tree that cannot be moved away or changed as a whole; nothing there is no obstacle."""
    path = f"{parent}/{name}"
    refuse_mounts(path)
    with trees.open_base(parent) as base:
        try:
            top = os.open(name, trees.DIRECTORY, dir_fd=base)
        except OSError:
            return  # not there, or no directory
    try:
        if _is_fixed(top):
            raise CommandFailed(
                f"{path} is immutable", hint=f"on the node: chattr -ia {path}", command="rename",
                exit_code=errno.EPERM, stderr=os.strerror(errno.EPERM),
            )  # fmt: skip
    finally:
        os.close(top)


def refuse_mounts(path: str) -> None:
    """Refuse a path at or below which a file system is mounted."""
    real = trees.real_path(path)
    for mounted in _mount_points():
        if mounted == real or mounted.startswith(f"{real}/"):
            mounted = path + mounted[len(real) :]
            raise InUse(f"a file system is mounted at {mounted}", hint=f"on the node: umount {shlex.quote(mounted)}")


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), line.split(" ")[4])


def _is_fixed(directory: int) -> bool:
    flags = array.array("i", [0, 0])
    try:
        fcntl.ioctl(directory, GET_FLAGS, flags)
    except OSError:
        return False  # a file system without such marks
    return bool(flags[0] & FIXED)
