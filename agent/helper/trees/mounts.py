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

from agent.helper.trees import trees
from agent.shared.errors import CommandFailed, InUse

# FS_IOC_GETFLAGS and its bits for "append only" and "immutable", from linux/fs.h.
GET_FLAGS, FIXED = 0x80086601, 0x30


def refuse(parent: str, name: str) -> None:
    """Refuse a tree that cannot be moved away or changed as a whole; nothing there is no obstacle."""
    refuse_mounts(f"{parent}/{name}")
    refuse_fixed(parent, name)


def refuse_fixed(parent: str, name: str) -> None:
    """Refuse a directory whose owner and mode cannot be changed; nothing there is no obstacle."""
    with trees.open_base(parent) as base:
        try:
            top = os.open(name, trees.DIRECTORY, dir_fd=base)
        except OSError:
            return  # not there, or no directory
    try:
        refuse_fixed_inode(top, f"{parent}/{name}")
    finally:
        os.close(top)


def refuse_fixed_inode(descriptor: int, path: str) -> None:
    """Refuse an open file or directory that is immutable or append-only, or on a file system that can only be read."""
    if _is_fixed(descriptor):
        raise _fixed(f"{path} is immutable, or append-only", errno.EPERM, f"on the node: chattr -ia {path}")
    if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        raise _fixed(f"{path}: {os.strerror(errno.EROFS)}", errno.EROFS, f"on the node: findmnt --target {path}")


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


def _fixed(problem: str, number: int, hint: str) -> CommandFailed:
    return CommandFailed(problem, hint=hint, command="rename", exit_code=number, stderr=os.strerror(number))


def _is_fixed(directory: int) -> bool:
    flags = array.array("i", [0, 0])
    try:
        fcntl.ioctl(directory, GET_FLAGS, flags)
    except OSError:
        return False  # a file system without such marks
    return bool(flags[0] & FIXED)
