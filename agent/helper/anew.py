"""The same thing as another inode: whoever held the old one, or watched it, reaches nothing any more.

Works in directories that only root can change, and that nobody finds by path. What is being written lies in two folders
of root's: `copies` is thrown away when a run was cut off, `halves` is not. There a directory waits, under the number of
the one whose place it takes, while the entries go over, the directories among them before they are entered: so no
depth makes a rename slow, for which the kernel looks at all above. The next run pours back what was cut off.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from typing import FrozenSet, Iterator

from agent.errors import InUse
from agent.helper import trees

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Read, write and execute of owner and group, and the sticky bit: no set-id, nothing for others.
KEPT_BITS = 0o1770
CHUNK_BYTES = 1 << 20
# FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, struct fsxattr (flags, two sizes, the project, a size) and the one flag that is
# no choice of anybody's, FS_XFLAG_HASATTR; from linux/fs.h.
GET_FLAGS, SET_FLAGS, FLAGS, HAS_ATTRIBUTES = 0x801C581F, 0x401C5820, struct.Struct("=5I8x"), 0x80000000


class Workshop:
    """Puts new inodes of one owner in the place of old ones."""

    def __init__(self, uid: int, copies: int, halves: int) -> None:
        self._uid, self._copies, self.halves = uid, copies, halves
        self._cut_off: FrozenSet[str] = frozenset(os.listdir(halves))

    def fit(self, top: int) -> None:
        """Let copies be of the tree's project, if it has one: a file system renames into no other."""
        _take_flags(top, self._copies)

    def begin(self, directory: int) -> str:
        """Make what will take a directory's place, or find it and pour back what is in it; return its name."""
        half = str(os.fstat(directory).st_ino)
        if half not in self._cut_off:
            os.mkdir(half, 0o700, dir_fd=self.halves)
        new = self.open(half)
        try:
            _pour(new, directory)
        finally:
            os.close(new)
        return half

    def open(self, path: str) -> int:
        """Open a directory that waits, or one in it."""
        return os.open(path, trees.DIRECTORY, dir_fd=self.halves)

    def take_over(self, name: str, directory: int, half: str) -> None:
        """Move an entry over."""
        with _telling(name):
            os.rename(name, f"{half}/{name}", src_dir_fd=directory, dst_dir_fd=self.halves)

    def end(self, directory: int, found: os.stat_result, half: str, name: str, parent: int) -> None:
        """Move the other entries over; put what waited in the place, as the old one was when it was `found`."""
        new = self.open(half)
        try:
            _pour(directory, new)
            _take_flags(directory, new)
            _take_attributes(directory, new)
            os.fchown(new, self._uid, self._uid)
            os.fchmod(new, found.st_mode & KEPT_BITS)
            os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(new)
        os.rename(half, name, src_dir_fd=self.halves, dst_dir_fd=parent)

    def replace_link(self, name: str, directory: int) -> None:
        """Put a symbolic link to the same in the place of one."""
        os.symlink(os.readlink(name, dir_fd=directory), "anew", dir_fd=self._copies)
        self._give(name, directory)

    def replace_pipe(self, name: str, directory: int, mode: int) -> None:
        """Put an empty pipe in the place of one."""
        os.mkfifo("anew", dir_fd=self._copies)
        os.chmod("anew", mode & KEPT_BITS, dir_fd=self._copies)
        self._give(name, directory)

    def replace_file(self, name: str, directory: int, found: os.stat_result) -> None:
        """Put a copy in the place of a file. All links to one file become links to one copy."""
        copy = str(found.st_ino)
        if not trees.is_in(self._copies, copy):
            self._write_copy(name, directory, found, copy)
        if found.st_nlink > 1:
            os.link(copy, "link", src_dir_fd=self._copies, dst_dir_fd=self._copies)
            copy = "link"
        os.rename(copy, name, src_dir_fd=self._copies, dst_dir_fd=directory)

    def _give(self, name: str, directory: int) -> None:
        os.chown("anew", self._uid, self._uid, dir_fd=self._copies, follow_symlinks=False)
        os.rename("anew", name, src_dir_fd=self._copies, dst_dir_fd=directory)

    def _write_copy(self, name: str, directory: int, found: os.stat_result, copy: str) -> None:
        """Write the same bytes, mode, times and attributes. Holes stay holes. It gets its name when it is whole."""
        source = os.open(name, READ, dir_fd=directory)
        target = os.open("copy", trees.NEW_FILE, 0o600, dir_fd=self._copies)
        try:
            _copy_bytes(source, target, found.st_size)
            _take_attributes(source, target)
            os.fchown(target, self._uid, self._uid)
            os.fchmod(target, found.st_mode & KEPT_BITS)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(target)
            os.rename("copy", copy, src_dir_fd=self._copies, dst_dir_fd=self._copies)
        finally:
            os.close(target)
            os.close(source)


def foreign(name: str) -> InUse:
    """Return the refusal of a tree with an entry that belongs to another file system."""
    problem = f"{name!r} in it is a mounted file system, or a subvolume"
    return InUse(problem, hint="on the node: findmnt, btrfs subvolume list; remove it and try again")


def _pour(source: int, target: int) -> None:
    """Move all entries; looked through again, because what is read while it changes may leave some out."""
    is_empty = False
    while not is_empty:
        is_empty = True
        with os.scandir(source) as entries:
            for entry in entries:
                is_empty = False
                with _telling(entry.name):
                    os.rename(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=target)


@contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EXDEV):
            raise foreign(name) from None
        raise


def _take_attributes(source: int, target: int) -> None:
    """Copy the extended attributes that grant nothing."""
    for attribute in os.listxattr(source):
        if attribute.startswith("user.") or attribute == "security.selinux":
            os.setxattr(target, attribute, os.getxattr(source, attribute))


def _take_flags(source: int, target: int) -> None:
    """Copy the inode's flags, and the project that a quota counts for; not every file system has them."""
    try:
        taken = fcntl.ioctl(source, GET_FLAGS, bytes(FLAGS.size))
        flags, *_, project, _ = FLAGS.unpack(taken)
        if flags & ~HAS_ATTRIBUTES or project:
            fcntl.ioctl(target, SET_FLAGS, taken)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
            raise


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy `size` bytes, no more: somebody may go on writing."""
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(source, offset, os.SEEK_DATA)
            end = min(os.lseek(source, offset, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole until the end
            raise
        while offset < end:
            data = os.pread(source, min(CHUNK_BYTES, end - offset), offset)
            if not data:
                return
            offset += os.pwrite(target, data, offset)
