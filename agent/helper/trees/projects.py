"""Project ids of files: what the file system counts together, and can limit (ext4, xfs).

A workspace's files belong to the project of its login's uid. A directory hands its project on to all that is made in
it; and the kernel lets nobody in a user namespace change it, nor move in what belongs to another one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import List, Tuple

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# struct fsxattr: flags, extent size, extents, project, extent size for copies, padding.
ATTRIBUTES = struct.Struct("=IIIII8s")
GET, SET = 0x801C581F, 0x401C5820
INHERIT = 0x200


def put(descriptor: int, project: int) -> None:
    """Put an open file or directory into a project, which all that is made in the directory belongs to from then on."""
    attributes = _read(descriptor)
    wanted = _in_project(descriptor, attributes, project)
    if wanted != attributes:
        fcntl.ioctl(descriptor, SET, wanted)


def put_if_possible(descriptor: int, project: int) -> None:
    """Put a new directory into a project, on a file system that has them."""
    try:
        put(descriptor, project)
    except OSError:
        pass  # whoever asks for a limit there is told what is missing


def is_in(descriptor: int, project: int) -> bool:
    """Tell whether a directory belongs to a project, and so does what is made in it."""
    try:
        attributes = _read(descriptor)
    except OSError:
        return False
    return _in_project(descriptor, attributes, project) == attributes


def put_tree(top: int, project: int) -> None:
    """Put a directory into a project, with all below it. Nothing of its owner may run meanwhile.

    The top comes last: a tree whose top belongs to the project does so whole. Links are not followed, and a file that
    has other names and another owner is left alone. Any depth takes two descriptors.
    """
    device, held = os.fstat(top).st_dev, os.open(".", DIRECTORY, dir_fd=top)
    # Of each directory on the way down: its inode, and the directories in it that are still to be entered.
    way: List[Tuple[int, List[str]]] = [(os.fstat(held).st_ino, _put_entries(held, project))]
    try:
        while way:
            names = way[-1][1]
            if names:
                inner = os.open(names.pop(), DIRECTORY, dir_fd=held)
                status = os.fstat(inner)
                if status.st_dev != device:  # mounted there
                    os.close(inner)
                    continue
                os.close(held)
                held = inner
                put(held, project)
                way.append((status.st_ino, _put_entries(held, project)))
                continue
            way.pop()
            if way:
                above = os.open("..", DIRECTORY, dir_fd=held)
                os.close(held)
                held = above
                if os.fstat(held).st_ino != way[-1][0]:
                    raise OSError(errno.EBUSY, "a directory was moved meanwhile")
    finally:
        os.close(held)
    put(top, project)


def _put_entries(directory: int, project: int) -> List[str]:
    """Put the files of a directory into a project, and return the names of the directories in it."""
    names: List[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                descriptor = os.open(entry.name, FILE, dir_fd=directory)
                try:
                    status = os.fstat(descriptor)
                    if status.st_nlink == 1 or status.st_uid == project:
                        put(descriptor, project)
                finally:
                    os.close(descriptor)
    return names


def _read(descriptor: int) -> bytes:
    return fcntl.ioctl(descriptor, GET, bytes(ATTRIBUTES.size))


def _in_project(descriptor: int, attributes: bytes, project: int) -> bytes:
    """Return the attributes that the file would have in a project."""
    flags, extent_size, extents, _, copied, padding = ATTRIBUTES.unpack(attributes)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        flags |= INHERIT
    return ATTRIBUTES.pack(flags, extent_size, extents, project, copied, padding)
