"""Replace files and directories by copies with new inodes, which no process that held the old ones can reach.

It works in directories that only root can change and nobody can reach by path. New inodes are made in two folders of
root. `copies` has files; an interrupted run discards it, because the old files stay in place until the copies are on
disk. `halves` has new directories, each named after the inode number of the one that it replaces, while the entries
move over; inner directories move before they are entered, so that no depth makes a rename slow (the kernel checks all
directories above). It is kept after an interruption: the next run moves the entries back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from agent.helper.trees import trees
from agent.shared.errors import InUse
from agent.shared.os_errors import NO_ROOM

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Read, write and execute of owner and group, and the sticky bit: no set-id, nothing for others.
KEPT_BITS = 0o1770
CHUNK_BYTES = 1 << 26
# How much is copied before one sync; then all of it is put into place.
BATCH_FILES, BATCH_BYTES = 500, 1 << 28
RENAME_EXCHANGE = 2
# FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR and struct fsxattr (flags, two sizes, the project, a size), from linux/fs.h.
# NOT_COPIED: FS_XFLAG_HASATTR, which cannot be set, _IMMUTABLE and _APPEND, which block the assignment anyway.
GET_FLAGS, SET_FLAGS, FLAGS, NOT_COPIED = 0x801C581F, 0x401C5820, struct.Struct("=5I8x"), 0x80000018


class _Copy(NamedTuple):
    """A copy that waits for the next sync, of the file `name` in the directory that `half` replaces."""

    copy: str
    is_shared: bool
    name: str
    half: str


class _Place(NamedTuple):
    """A directory that waits for copies, and its times (atime, mtime in ns) once it is the new one."""

    directory: int
    times: Optional[Tuple[int, int]]


class Workshop:
    """Replaces old inodes by new ones of one owner."""

    def __init__(self, uid: int, copies: int, halves: int) -> None:
        self._uid, self._copies, self.halves = uid, copies, halves
        self._waiting: List[_Copy] = []
        self._places: Dict[str, _Place] = {}
        self._bytes = 0
        self._interrupted: Set[str] = set()
        for half in os.listdir(halves):
            if os.stat(half, dir_fd=halves).st_ino == int(half):
                os.rmdir(half, dir_fd=halves)  # the old one itself, empty
            else:
                self._interrupted.add(half)

    def fit(self, top: int) -> None:
        """Give the folder of copies the tree's project, if it has one: a rename into another project fails."""
        _copy_flags(top, self._copies)

    def begin(self, directory: int) -> str:
        """Make a directory's replacement, or move back what an interrupted run moved into it; return its name."""
        half = str(os.fstat(directory).st_ino)
        if half not in self._interrupted:
            os.mkdir(half, 0o700, dir_fd=self.halves)
        new = self.open(half)
        try:
            _move_entries(new, directory)
        finally:
            os.close(new)
        return half

    def open(self, path: str) -> int:
        """Open a replacement, or a directory in it."""
        return os.open(path, trees.DIRECTORY, dir_fd=self.halves)

    def take_over(self, name: str, directory: int, half: str) -> None:
        """Move an entry into the replacement."""
        with _foreign_on_error(name):
            os.rename(name, f"{half}/{name}", src_dir_fd=directory, dst_dir_fd=self.halves)

    def end(self, directory: int, status: os.stat_result, half: str, name: str, parent: int) -> None:
        """Move the other entries over, and put the replacement into place with the attributes of `status`."""
        new = self.open(half)
        try:
            _move_entries(directory, new)
            _copy_flags(directory, new)
            _copy_attributes(directory, new)
            os.fchown(new, self._uid, self._uid)
            os.fchmod(new, status.st_mode & KEPT_BITS)
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
            if half in self._places:
                os.close(self._places[half].directory)
                self._places[half] = _Place(os.dup(new), (status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(new)
        _put(half, self.halves, name, parent, os.rmdir)

    def replace_link(self, name: str, directory: int, status: os.stat_result) -> None:
        """Replace a symbolic link by one with the same target."""
        os.symlink(os.readlink(name, dir_fd=directory), "anew", dir_fd=self._copies)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime("anew", ns=times, dir_fd=self._copies, follow_symlinks=False)
        self._give(name, directory)

    def replace_pipe(self, name: str, directory: int, status: os.stat_result) -> None:
        """Replace a named pipe by an empty one."""
        os.mkfifo("anew", dir_fd=self._copies)
        os.chmod("anew", status.st_mode & KEPT_BITS, dir_fd=self._copies)
        self._give(name, directory)

    def replace_file(self, name: str, directory: int, status: os.stat_result, half: str) -> None:
        """Copy a file; `flush` puts the copy into place. All links to one file become links to one copy."""
        copy = str(status.st_ino)
        if not trees.has_entry(self._copies, copy):
            self._write_with_room(name, directory, status, copy)
            self._bytes += status.st_blocks * 512
        if half not in self._places:
            self._places[half] = _Place(os.dup(directory), None)
        self._waiting.append(_Copy(copy, status.st_nlink > 1, name, half))
        if len(self._waiting) >= BATCH_FILES or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Sync the copies and put them into place, so that they have their contents after a power cut."""
        if self._waiting:
            os.sync()
        for one in self._waiting:
            if one.is_shared:
                os.link(one.copy, "link", src_dir_fd=self._copies, dst_dir_fd=self._copies)
            source = "link" if one.is_shared else one.copy
            _put(source, self._copies, one.name, self._places[one.half].directory, os.unlink)
        for place in self._places.values():
            if place.times is not None:
                os.utime(place.directory, ns=place.times)
        self.close()

    def close(self) -> None:
        """Drop the copies that wait, and close their directories."""
        for place in self._places.values():
            os.close(place.directory)
        self._waiting, self._places, self._bytes = [], {}, 0

    def _give(self, name: str, directory: int) -> None:
        os.chown("anew", self._uid, self._uid, dir_fd=self._copies, follow_symlinks=False)
        _put("anew", self._copies, name, directory, os.unlink)

    def _write_with_room(self, name: str, directory: int, status: os.stat_result, copy: str) -> None:
        """Write a copy; on a full disk flush, which frees the replaced files, and try once more."""
        try:
            self._write_copy(name, directory, status, copy)
        except OSError as error:
            if error.errno not in NO_ROOM or not self._waiting:
                raise
            self.flush()
            self._write_copy(name, directory, status, copy)

    def _write_copy(self, name: str, directory: int, status: os.stat_result, copy: str) -> None:
        """Write a copy with the same bytes, holes, mode, times and attributes, or nothing."""
        source = os.open(name, READ, dir_fd=directory)
        target = os.open(copy, trees.NEW_FILE, 0o600, dir_fd=self._copies)
        try:
            _copy_bytes(source, target, status.st_size)
            _copy_flags(source, target)
            _copy_attributes(source, target)
            os.fchown(target, self._uid, self._uid)
            os.fchmod(target, status.st_mode & KEPT_BITS)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        except OSError:
            os.unlink(copy, dir_fd=self._copies)
            raise
        finally:
            os.close(target)
            os.close(source)


def _put(source: str, folder: int, name: str, directory: int, remove: Callable[..., None]) -> None:
    """Exchange FOLDER/SOURCE and DIRECTORY/NAME, then remove the old one, which is in FOLDER by now.

    Removed in its place, it would still show the current names of its parents to a process that holds it (readlink
    /proc/self/fd/N).
    """
    exchange = _exchange()
    words = (folder, os.fsencode(source), directory, os.fsencode(name), RENAME_EXCHANGE)
    if exchange is not None and exchange(*words) == 0:
        remove(source, dir_fd=folder)
    else:  # there is no such call, or it failed: then this one raises the error
        with _foreign_on_error(name):
            os.rename(source, name, src_dir_fd=folder, dst_dir_fd=directory)


@lru_cache(maxsize=1)
def _exchange() -> Any:
    """Return renameat2(2), which Python lacks; None where the C library lacks it too."""
    try:
        import ctypes

        return ctypes.CDLL(None).renameat2
    except (ImportError, OSError, MemoryError, AttributeError):
        return None


def foreign(name: str) -> InUse:
    """Return the error for a tree with an entry on another file system."""
    problem = f"{name!r} in it is a mounted file system, or a subvolume"
    return InUse(problem, hint="on the node: findmnt, btrfs subvolume list; remove it and try again")


def _move_entries(source: int, target: int) -> None:
    """Move all entries; list again until it is empty, because a listing may omit entries while some are moved."""
    is_empty = False
    while not is_empty:
        is_empty = True
        with os.scandir(source) as entries:
            for entry in entries:
                is_empty = False
                with _foreign_on_error(entry.name):
                    os.rename(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=target)


@contextmanager
def _foreign_on_error(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EXDEV):
            raise foreign(name) from None
        raise


def _copy_attributes(source: int, target: int) -> None:
    """Copy the extended attributes that grant no rights."""
    for attribute in os.listxattr(source):
        if attribute.startswith("user.") or attribute == "security.selinux":
            os.setxattr(target, attribute, os.getxattr(source, attribute))


def _copy_flags(source: int, target: int) -> None:
    """Copy the inode's flags and its quota project; not every file system has them."""
    try:
        flags, extent, _, project, shared = FLAGS.unpack(fcntl.ioctl(source, GET_FLAGS, bytes(FLAGS.size)))
        flags &= ~NOT_COPIED
        if flags or project:
            fcntl.ioctl(target, SET_FLAGS, FLAGS.pack(flags, extent, 0, project, shared))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
            raise


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy `size` bytes and no more, although a process may go on writing."""
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(source, offset, os.SEEK_DATA)
            end = min(os.lseek(source, offset, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # the rest is a hole
            raise
        while offset < end:
            count = os.copy_file_range(source, target, min(CHUNK_BYTES, end - offset), offset, offset)
            if not count:
                return
            offset += count
