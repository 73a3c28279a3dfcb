"""The same thing as another inode: whoever held the old one, watched it or pinned its pages, reaches nothing any more.

Works in directories that only root can change, and that nobody finds by path. What is being written lies in two folders
of root's. `copies` of files are thrown away when a run was cut off; the files are in their places until the copies are
on disk. `halves` are not thrown away: there a directory waits, under the number of the one whose place it takes, while
the entries go over, the directories among them before they are entered. So no depth makes a rename slow, for which the
kernel looks at all above. The next run pours back what was cut off.
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
# How much is copied before it is put in its places, all of it after one sync.
BATCH_FILES, BATCH_BYTES = 500, 1 << 28
RENAME_EXCHANGE = 2
# FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, struct fsxattr (flags, two sizes, the project, a size); and FS_XFLAG_HASATTR,
# which is nobody's choice, _IMMUTABLE and _APPEND, which stop what they are on by themselves; from linux/fs.h.
GET_FLAGS, SET_FLAGS, FLAGS, NOT_TAKEN = 0x801C581F, 0x401C5820, struct.Struct("=5I8x"), 0x80000018


class _Copy(NamedTuple):
    """A copy that waits for the next sync: of a file that has this name in the directory that `half` is for."""

    copy: str
    is_shared: bool
    name: str
    half: str


class _Place(NamedTuple):
    """A directory that copies go to; its times, once it is the new one."""

    directory: int
    times: Optional[Tuple[int, int]]


class Workshop:
    """Puts new inodes of one owner in the place of old ones."""

    def __init__(self, uid: int, copies: int, halves: int) -> None:
        self._uid, self._copies, self.halves = uid, copies, halves
        self._waiting: List[_Copy] = []
        self._places: Dict[str, _Place] = {}
        self._bytes = 0
        self._cut_off: Set[str] = set()
        for half in os.listdir(halves):
            if os.stat(half, dir_fd=halves).st_ino == int(half):
                os.rmdir(half, dir_fd=halves)  # the old one itself, empty
            else:
                self._cut_off.add(half)

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
            if half in self._places:
                os.close(self._places[half].directory)
                self._places[half] = _Place(os.dup(new), (found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(new)
        _put(half, self.halves, name, parent, os.rmdir)

    def replace_link(self, name: str, directory: int, found: os.stat_result) -> None:
        """Put a symbolic link to the same in the place of one."""
        os.symlink(os.readlink(name, dir_fd=directory), "anew", dir_fd=self._copies)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime("anew", ns=times, dir_fd=self._copies, follow_symlinks=False)
        self._give(name, directory)

    def replace_pipe(self, name: str, directory: int, found: os.stat_result) -> None:
        """Put an empty pipe in the place of one."""
        os.mkfifo("anew", dir_fd=self._copies)
        os.chmod("anew", found.st_mode & KEPT_BITS, dir_fd=self._copies)
        self._give(name, directory)

    def replace_file(self, name: str, directory: int, found: os.stat_result, half: str) -> None:
        """Put a copy in the place of a file, some time later. All links to one file become links to one copy."""
        copy = str(found.st_ino)
        if not trees.is_in(self._copies, copy):
            self._write_with_room(name, directory, found, copy)
            self._bytes += found.st_blocks * 512
        if half not in self._places:
            self._places[half] = _Place(os.dup(directory), None)
        self._waiting.append(_Copy(copy, found.st_nlink > 1, name, half))
        if len(self._waiting) >= BATCH_FILES or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put the copies that wait in their places; after a power cut they have their bytes."""
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
        """Let go of what waits."""
        for place in self._places.values():
            os.close(place.directory)
        self._waiting, self._places, self._bytes = [], {}, 0

    def _give(self, name: str, directory: int) -> None:
        os.chown("anew", self._uid, self._uid, dir_fd=self._copies, follow_symlinks=False)
        _put("anew", self._copies, name, directory, os.unlink)

    def _write_with_room(self, name: str, directory: int, found: os.stat_result, copy: str) -> None:
        """Write a copy; on a full disk once more, when what waits has made room."""
        try:
            self._write_copy(name, directory, found, copy)
        except OSError as error:
            if error.errno not in NO_ROOM or not self._waiting:
                raise
            self.flush()
            self._write_copy(name, directory, found, copy)

    def _write_copy(self, name: str, directory: int, found: os.stat_result, copy: str) -> None:
        """Write the same bytes, mode, times and attributes, or nothing. Holes stay holes."""
        source = os.open(name, READ, dir_fd=directory)
        target = os.open(copy, trees.NEW_FILE, 0o600, dir_fd=self._copies)
        try:
            _copy_bytes(source, target, found.st_size)
            _take_flags(source, target)
            _take_attributes(source, target)
            os.fchown(target, self._uid, self._uid)
            os.fchmod(target, found.st_mode & KEPT_BITS)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        except OSError:
            os.unlink(copy, dir_fd=self._copies)
            raise
        finally:
            os.close(target)
            os.close(source)


def _put(source: str, folder: int, name: str, directory: int, remove: Callable[..., None]) -> None:
    """Put FOLDER/SOURCE in the place of DIRECTORY/NAME, and take the old one out of there before it goes.

    In its place, it would go on telling who holds it by what names its parents go (readlink /proc/self/fd/N).
    """
    exchange = _exchange()
    words = (folder, os.fsencode(source), directory, os.fsencode(name), RENAME_EXCHANGE)
    if exchange is not None and exchange(*words) == 0:
        remove(source, dir_fd=folder)
    else:  # without such a call; or what stands in the way of it is told by this one
        with _telling(name):
            os.rename(source, name, src_dir_fd=folder, dst_dir_fd=directory)


@lru_cache(maxsize=1)
def _exchange() -> Any:
    """Return renameat2(2), which Python does not have; None where the C library has none."""
    try:
        import ctypes

        return ctypes.CDLL(None).renameat2
    except (ImportError, OSError, MemoryError, AttributeError):
        return None


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
        flags, extent, _, project, shared = FLAGS.unpack(fcntl.ioctl(source, GET_FLAGS, bytes(FLAGS.size)))
        flags &= ~NOT_TAKEN
        if flags or project:
            fcntl.ioctl(target, SET_FLAGS, FLAGS.pack(flags, extent, 0, project, shared))
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
            count = os.copy_file_range(source, target, min(CHUNK_BYTES, end - offset), offset, offset)
            if not count:
                return
            offset += count
