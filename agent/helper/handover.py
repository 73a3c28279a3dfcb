"""A tree changes hands, and nothing that its old owner kept is a way back in.

The tree is moved into root's staging first, where nobody finds it by path. Then every directory is made root's before
it is read, so that its entries stand still, and gets its new owner when all below it is done. The way down and back up
("..") takes constant descriptors at any depth. Whatever was cut off may be run again from the start.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import contextmanager
from typing import AbstractSet, Iterator, List, NamedTuple, Optional, Sequence, Union

from agent.errors import InUse, NotManaged
from agent.helper import trees
from agent.helper.waiting import wait_for

LOCK = "/var/lib/codesmith-helper/trees.lock"
# A front end that was killed asks again while the helper still does what it was asked first.
WAIT_S = 5.0
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
CHUNK_BYTES = 1 << 20
# Read, write and execute of owner and group, and the sticky bit: no set-id, nothing for others.
KEPT_BITS = 0o1770


class Change(NamedTuple):
    """From whom to whom."""

    old_uids: AbstractSet[int]
    uid: int


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the tree of a workspace; InUse when somebody else does, and is not done soon."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        if not wait_for(lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place), WAIT_S):
            raise InUse(f"workspace {name!r} is being assigned or deleted", hint="try again")
        yield
    finally:
        os.close(descriptor)


def take(parent: str, name: str) -> None:
    """Move PARENT/NAME out of everyone's reach; nothing happens when it was taken before."""
    with trees.open_base(trees.STAGING) as staging, trees.open_base(parent) as base:
        os.fchmod(staging, 0o700)
        if _exists(base, name):
            trees.rename_new(base, name, staging, trees.taken(name))
            os.fsync(staging)
            os.fsync(base)
        elif not _exists(staging, trees.taken(name)):
            raise NotManaged(f"the directory {parent}/{name} is gone")


def change_owner(name: str, change: Change, entries: Sequence[trees.Entry]) -> None:
    """Give a taken tree to `change.uid`; `entries` (one level deep) are written anew in it."""
    trees.remove(trees.STAGING, copies_of(name))  # of a run that was cut off
    with trees.open_base(trees.STAGING) as staging, trees.open_base(trees.TRASH) as trash:
        top = os.open(trees.taken(name), trees.DIRECTORY, dir_fd=staging)
        os.mkdir(copies_of(name), 0o700, dir_fd=staging)
        copies = os.open(copies_of(name), trees.DIRECTORY, dir_fd=staging)
        try:
            _Walk(change, copies, os.fstat(top).st_dev).go(top)
            for entry in entries:
                _write_anew(top, entry, change.uid, trash)
            os.fchown(top, change.uid, change.uid)
            os.fchmod(top, 0o700)
        finally:
            os.close(copies)
            os.close(top)
    trees.remove(trees.STAGING, copies_of(name))
    os.sync()  # a change of owner is no write of a file: there is nothing else that makes a million of them durable


def put_back(parent: str, name: str) -> None:
    """Move a taken tree into place."""
    with trees.open_base(trees.STAGING) as staging, trees.open_base(parent) as base:
        trees.rename_new(staging, trees.taken(name), base, name)
        os.fsync(base)
        os.fsync(staging)


def copies_of(name: str) -> str:
    """Return the name, in staging, of the folder for copies while a tree changes hands; others leave it alone."""
    return trees.taken(f"{name}.copies")


class _Level(NamedTuple):
    """A directory on the way: what it is, and which directories in it are still to do."""

    inode: int
    inner: List[str]


class _Walk:
    """Depth first with one descriptor. A directory is root's from before it is read until all below it is done."""

    def __init__(self, change: Change, copies: int, device: int) -> None:
        self._change, self._copies, self._device = change, copies, device
        self._is_leased = False

    def go(self, top: int) -> None:
        """Change everything below `top`; `top` itself stays root's. InUse when something has to wait for a lease."""
        self._descend(top)
        if self._is_leased:
            raise InUse("leases on files in it end within a minute", hint="try again then")

    def _descend(self, top: int) -> None:
        here = os.dup(top)
        try:
            levels = [self._enter(here)]
            while True:
                if levels[-1].inner:
                    inner = self._open(levels[-1].inner.pop(), here)
                    if inner is not None:
                        os.close(here)
                        here = inner
                        levels.append(self._enter(here))
                    continue
                levels.pop()
                if not levels:
                    return
                outer = os.open("..", trees.DIRECTORY, dir_fd=here)
                if os.fstat(outer).st_ino != levels[-1].inode:
                    os.close(outer)
                    raise InUse("a directory moved while its owner was changed", hint="try again")
                os.fchown(here, self._change.uid, self._change.uid)
                os.close(here)
                here = outer
        finally:
            os.close(here)

    def _open(self, name: str, parent: int) -> Optional[int]:
        """Open a directory; None for one of another file system, which is not part of the tree."""
        try:
            inner = os.open(name, trees.DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.EACCES):
                return None  # a mount in user space that has lost its process, or that root may not see
            raise
        if os.fstat(inner).st_dev != self._device:
            os.close(inner)
            return None
        return inner

    def _enter(self, directory: int) -> _Level:
        """Make a directory root's, and change what is in it but directories."""
        os.fchown(directory, 0, 0)
        # From here on its old owner changes neither it nor its entries; the rights of owner and group are kept in it.
        for attribute in ACCESS_LISTS:
            _remove_attribute(directory, attribute)
        found = os.fstat(directory)
        os.fchmod(directory, found.st_mode & KEPT_BITS)
        inner = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                else:
                    self._change_entry(entry.name, directory)
        return _Level(found.st_ino, inner)

    def _change_entry(self, name: str, directory: int) -> None:
        """Change what is no directory. Its name is safe to use: only root can change entries of `directory` now."""
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if found.st_dev != self._device or stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
            return  # somebody else's mount, or a device, which only root can have made
        if found.st_nlink > 1 and found.st_uid not in self._change.old_uids | {self._change.uid}:
            return  # a hard link to a file of somebody else, who keeps it as it is
        if stat.S_ISREG(found.st_mode):
            try:
                if found.st_nlink > 1 or not self._change_file(name, directory, found):
                    self._copy(name, directory, found)
            except BlockingIOError:
                self._is_leased = True  # from now on it runs out; nobody can take another one
        else:
            self._make_anew(name, directory, found)

    def _change_file(self, name: str, directory: int, found: os.stat_result) -> bool:
        """Change a file where it is; False when somebody still reaches it: by another name, a descriptor, a mapping."""
        # Root's first: from here on nobody opens or links it anew. Its security.capability goes with a change of owner.
        os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)
        path = f"/proc/self/fd/{directory}/{name}"
        if ACCESS_LISTS[0] in os.listxattr(path, follow_symlinks=False):
            _remove_attribute(path, ACCESS_LISTS[0])
        os.chmod(name, found.st_mode & KEPT_BITS, dir_fd=directory)
        file = os.open(name, READ, dir_fd=directory)
        try:
            if os.fstat(file).st_nlink > 1 or _is_open(file):
                return False
            os.fchown(file, self._change.uid, self._change.uid)
        finally:
            os.close(file)
        return True

    def _make_anew(self, name: str, directory: int, found: os.stat_result) -> None:
        """Replace a link that has other names, or a pipe that somebody may hold; a socket has no process: it goes."""
        if stat.S_ISLNK(found.st_mode) and found.st_nlink == 1:
            os.chown(name, self._change.uid, self._change.uid, dir_fd=directory, follow_symlinks=False)
            return
        if stat.S_ISSOCK(found.st_mode):
            os.unlink(name, dir_fd=directory)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=directory), "anew", dir_fd=self._copies)
        else:
            os.mkfifo("anew", dir_fd=self._copies)
            os.chmod("anew", found.st_mode & KEPT_BITS, dir_fd=self._copies)
        os.chown("anew", self._change.uid, self._change.uid, dir_fd=self._copies, follow_symlinks=False)
        os.rename("anew", name, src_dir_fd=self._copies, dst_dir_fd=directory)

    def _copy(self, name: str, directory: int, found: os.stat_result) -> None:
        """Put a copy in the place of a file: another inode. All links to one file become links to one copy."""
        copy = str(found.st_ino)
        if not _exists(self._copies, copy):
            self._write_copy(name, directory, found, copy)
        if found.st_nlink > 1:
            os.link(copy, "link", src_dir_fd=self._copies, dst_dir_fd=self._copies)
            copy = "link"
        os.rename(copy, name, src_dir_fd=self._copies, dst_dir_fd=directory)

    def _write_copy(self, name: str, directory: int, found: os.stat_result, copy: str) -> None:
        """Write the same bytes, mode and times. Holes stay holes. It gets its name when it is whole."""
        source = os.open(name, READ, dir_fd=directory)
        target = os.open("copy", trees.NEW_FILE, 0o600, dir_fd=self._copies)
        try:
            _copy_bytes(source, target, found.st_size)
            os.fchown(target, self._change.uid, self._change.uid)
            os.fchmod(target, found.st_mode & KEPT_BITS)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(target)
            os.rename("copy", copy, src_dir_fd=self._copies, dst_dir_fd=self._copies)
        finally:
            os.close(target)
            os.close(source)


def _is_open(file: int) -> bool:
    """Tell whether anything but this descriptor holds a file of ours open, for reading too, or mapped.

    Asked of the kernel, which gives a lease for writing to the only one who has the file open: so a descriptor that
    waits in a socket's queue or in a ring of io_uring counts, though no list of open files shows it. A file system
    without leases counts as yes.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


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


def _write_anew(top: int, entry: trees.Entry, uid: int, trash: int) -> None:
    """Write one entry of a tree whose top is root's; a directory may have been there, with what is in it."""
    folder, _, name = entry.path.rpartition("/")
    if entry.data is None:
        if not _is_directory(top, entry.path):
            _discard(top, entry.path, trash)
            os.mkdir(entry.path, 0o700, dir_fd=top)
        descriptor = os.open(entry.path, trees.DIRECTORY, dir_fd=top)
        try:
            trees.settle(descriptor, uid, entry.mode)
        finally:
            os.close(descriptor)
        return
    parent = os.open(folder or ".", trees.DIRECTORY, dir_fd=top)
    try:
        before = os.fstat(parent)
        os.fchown(parent, 0, 0)  # its new owner may have a descriptor too: the entries stand still meanwhile
        _discard(parent, name, trash)
        trees.write_file(parent, trees.Entry(name, entry.mode, entry.data), uid)
        trees.settle(parent, before.st_uid, stat.S_IMODE(before.st_mode))
    finally:
        os.close(parent)


def _discard(directory: int, name: str, trash: int) -> None:
    try:
        os.rename(name, secrets.token_hex(16), src_dir_fd=directory, dst_dir_fd=trash)
    except FileNotFoundError:
        pass


def _remove_attribute(where: Union[int, str], attribute: str) -> None:
    try:
        os.removexattr(where, attribute)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
