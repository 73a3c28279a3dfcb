"""Refuse trees that root blocks: one with a file system mounted in it, or one that is immutable.

Checked before a deletion or an assignment changes anything. A mount that comes later is safe too: the kernel neither
renames nor removes a mount point, so nothing below it is ever touched.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import shlex
from typing import List

from agent.helper.trees import trees
from agent.shared.errors import CommandFailed, InUse

# FS_IOC_GETFLAGS and its bits for "append only" and "immutable", from linux/fs.h.
GET_FLAGS, IMMUTABLE = 0x80086601, 0x30
# How mountinfo writes spaces and the like.
OCTAL = re.compile(r"\\([0-7]{3})")


def refuse(parent: str, name: str) -> None:
    """Raise InUse or CommandFailed for a tree that cannot be moved or changed; a missing one is fine."""
    refuse_mounts(f"{parent}/{name}")
    refuse_immutable(parent, name)


def refuse_immutable(parent: str, name: str) -> None:
    """Raise CommandFailed for a directory whose owner and mode cannot be changed; a missing one is fine."""
    with trees.open_base(parent) as base:
        try:
            top = os.open(name, trees.DIRECTORY, dir_fd=base)
        except OSError:
            return  # missing, or not a directory
    try:
        refuse_immutable_inode(top, f"{parent}/{name}")
    finally:
        os.close(top)


def refuse_immutable_inode(descriptor: int, path: str) -> None:
    """Raise CommandFailed for an open file or directory that is immutable, append-only or on a read-only disk."""
    if _is_immutable(descriptor):
        raise _refused(f"{path} is immutable, or append-only", errno.EPERM, f"on the node: chattr -ia {path}")
    if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        raise _refused(f"{path}: {os.strerror(errno.EROFS)}", errno.EROFS, f"on the node: findmnt --target {path}")


def refuse_mounts(*paths: str) -> None:
    """Raise InUse for the first of the paths at or below which a file system is mounted."""
    mount_points = _mount_points()  # once: the kernel takes 0.5 ms to write it down
    for path in paths:
        real = trees.real_path(path)
        for mounted in mount_points:
            if mounted == real or mounted.startswith(f"{real}/"):
                mounted = path + mounted[len(real) :]
                hint = f"on the node: umount {shlex.quote(mounted)}"
                raise InUse(f"a file system is mounted at {mounted}", hint=hint)


def _mount_points() -> List[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [OCTAL.sub(lambda octal: chr(int(octal.group(1), 8)), line.split(" ")[4]) for line in file]


def _refused(problem: str, number: int, hint: str) -> CommandFailed:
    return CommandFailed(problem, hint=hint, command="rename", exit_code=number, stderr=os.strerror(number))


def _is_immutable(directory: int) -> bool:
    flags = array.array("i", [0, 0])
    try:
        fcntl.ioctl(directory, GET_FLAGS, flags)
    except OSError:
        return False  # a file system without such flags
    return bool(flags[0] & IMMUTABLE)
