"""Give a tree to a new owner; nothing that the old owner kept gives access to it.

The tree is moved into root's staging first, where nobody can reach it by path. Then each directory is given to root
before it is read, so that its entries cannot change; a new directory of the new owner replaces it when all below it is
done. Any depth takes constant descriptors. After an interruption it can be run again from the start.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import contextmanager
from typing import AbstractSet, Iterator, List, NamedTuple, Sequence, Tuple

from agent.helper.trees import anew, trees
from agent.shared import acls
from agent.shared.errors import InUse, NotManaged
from agent.shared.file_lock import open_lock, wait_for
from agent.shared.names import STAGING, WORKSPACES

LOCK = "/var/lib/codesmith-helper/trees.lock"
# A front end that was killed repeats its request while the helper still works on the first one.
WAIT_S = 5.0


class Change(NamedTuple):
    """The uids that may own parts of the tree, and the uid of its new owner."""

    old_uids: AbstractSet[int]
    uid: int


@contextmanager
def lock_tree(name: str) -> Iterator[None]:
    """Hold the lock of a workspace's tree; InUse when another process holds it for longer than WAIT_S."""
    descriptor = open_lock(LOCK)
    try:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        if not wait_for(lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place), WAIT_S):
            raise InUse(f"workspace {name!r} is being assigned or deleted", hint="try again")
        yield
    finally:
        os.close(descriptor)


def move_to_staging(parent: str, name: str) -> None:
    """Move PARENT/NAME into staging, out of reach of all users; do nothing when an earlier run has."""
    with trees.open_base(trees.STAGING) as staging, trees.open_base(parent) as base:
        os.fchmod(staging, 0o700)
        if trees.has_entry(base, name):
            trees.rename_new(base, name, staging, trees.moving_name(name))
            os.fsync(staging)
            os.fsync(base)
        elif not trees.has_entry(staging, trees.moving_name(name)):
            raise NotManaged(f"the directory {parent}/{name} is gone")


def change_owner(name: str, change: Change, entries: Sequence[trees.Entry]) -> None:
    """Give a tree in staging to `change.uid`; `entries` (one level deep) are written anew in it."""
    trees.remove(trees.STAGING, copies_of(name))  # of an interrupted run
    with trees.open_base(trees.STAGING) as staging, trees.open_base(trees.TRASH) as trash:
        copies, halves = _folder(copies_of(name), staging), _folder(halves_of(name), staging)
        workshop = anew.Workshop(change.uid, copies, halves)
        try:
            _Walk(change, workshop, staging).go(trees.moving_name(name))
            # From here on only root can reach any directory of the tree.
            top = os.open(trees.moving_name(name), trees.DIRECTORY, dir_fd=staging)
            try:
                for entry in entries:
                    _write_anew(top, entry, change.uid, trash)
                os.fchmod(top, 0o700)
            finally:
                os.close(top)
        finally:
            workshop.close()
            os.close(halves)
            os.close(copies)
        os.rmdir(halves_of(name), dir_fd=staging)
    trees.remove(trees.STAGING, copies_of(name))
    os.sync()  # a change of owner writes no file, so there is no cheaper way to make a million of them durable


def put_back(parent: str, name: str) -> None:
    """Move a tree from staging into its place."""
    with trees.open_base(trees.STAGING) as staging, trees.open_base(parent) as base:
        trees.rename_new(staging, trees.moving_name(name), base, name)
        os.fsync(base)
        os.fsync(staging)


def copies_of(name: str) -> str:
    """Return the name, in staging, of the folder for copies of files during an assignment."""
    return trees.moving_name(f"{name}.copies")


def halves_of(name: str) -> str:
    """Return the name, in staging, of the folder for new directories that lack some of their entries."""
    return trees.moving_name(f"{name}.halves")


def places_of(name: str) -> Tuple[Tuple[str, str], ...]:
    """Return (parent, name) of each place of a workspace's tree: its own, and those in staging during an assignment."""
    folders = (trees.moving_name(name), copies_of(name), halves_of(name))
    return ((WORKSPACES, name), *((STAGING, folder) for folder in folders))


def _folder(name: str, staging: int) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=staging)
    except FileExistsError:
        pass
    descriptor = os.open(name, trees.DIRECTORY, dir_fd=staging)
    acls.remove(descriptor)  # its entries would inherit them
    return descriptor


class _Level(NamedTuple):
    """A directory of the walk: its name, its old status, the name of its replacement, its directories still to do."""

    name: str
    status: os.stat_result
    half: str
    inner: List[str]


class _Walk:
    """A depth-first walk with one descriptor. A directory is root's from before it is read until all below is done.

    Each is moved into its parent's replacement before it is entered, so that two names suffice to find it.
    """

    def __init__(self, change: Change, workshop: anew.Workshop, staging: int) -> None:
        self._change, self._workshop, self._staging = change, workshop, staging
        self._levels: List[_Level] = []
        self._is_leased = False

    def go(self, top: str) -> None:
        """Change `top` and everything below it; InUse when a file has a lease."""
        here = os.open(top, trees.DIRECTORY, dir_fd=self._staging)
        try:
            self._device = os.fstat(here).st_dev
            self._workshop.fit(here)
            self._enter(here, top)
            while self._levels:
                there = self._go_down(here) if self._levels[-1].inner else self._go_up(here)
                os.close(here)
                here = there
            self._workshop.flush()
        finally:
            os.close(here)
        if self._is_leased:
            raise InUse("files in it have leases, which end within a minute", hint="try again then")

    def _go_down(self, here: int) -> int:
        level = self._levels[-1]
        name = level.inner.pop()
        inner = self._open(name, here)
        try:
            self._workshop.take_over(name, here, level.half)
            self._enter(inner, name)
        except BaseException:
            os.close(inner)
            raise
        return inner

    def _go_up(self, here: int) -> int:
        done = self._levels.pop()
        if not self._levels:
            self._workshop.end(here, done.status, done.half, done.name, self._staging)
            return os.dup(self._staging)
        place = f"{self._levels[-1].half}/{done.name}"
        self._workshop.end(here, done.status, done.half, place, self._workshop.halves)
        if len(self._levels) == 1:
            return os.open(self._levels[0].name, trees.DIRECTORY, dir_fd=self._staging)
        return self._workshop.open(f"{self._levels[-2].half}/{self._levels[-1].name}")

    def _open(self, name: str, parent: int) -> int:
        try:
            inner = os.open(name, trees.DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.EACCES):  # FUSE: its server has ended, or refuses root
                raise anew.foreign(name) from None
            raise
        if os.fstat(inner).st_dev != self._device:
            os.close(inner)
            raise anew.foreign(name)
        return inner

    def _enter(self, directory: int, name: str) -> None:
        """Give a directory to root, and change its entries except directories."""
        os.fchown(directory, 0, 0)
        # From here on its old owner can change neither it nor its entries. The bits of owner and group are kept.
        acls.remove(directory)
        status = os.fstat(directory)
        os.fchmod(directory, status.st_mode & anew.KEPT_BITS)
        half = self._workshop.begin(directory)
        inner = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                else:
                    self._change_entry(entry.name, directory, half)
        self._levels.append(_Level(name, status, half, inner))

    def _change_entry(self, name: str, directory: int, half: str) -> None:
        """Replace an entry that is not a directory. Its name is safe: only root can change `directory` now."""
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if status.st_dev != self._device or stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            return  # a mount of another owner, or a device, which only root can have made
        if stat.S_ISLNK(status.st_mode):
            self._workshop.replace_link(name, directory, status)
        elif stat.S_ISFIFO(status.st_mode):
            self._workshop.replace_pipe(name, directory, status)
        elif stat.S_ISREG(status.st_mode) and not self._is_secret(status):
            try:
                self._workshop.replace_file(name, directory, status, half)
            except BlockingIOError:
                self._is_leased = True  # it is being broken now, and nobody can take another one
        else:  # a socket, whose processes have ended
            os.unlink(name, dir_fd=directory)

    def _is_secret(self, status: os.stat_result) -> bool:
        """Tell whether a file has another owner and another name, and could not be read by the old owner."""
        is_own = status.st_uid in self._change.old_uids | {self._change.uid}
        return status.st_nlink > 1 and not is_own and not status.st_mode & stat.S_IROTH


def _write_anew(top: int, entry: trees.Entry, uid: int, trash: int) -> None:
    """Write one entry of a tree that only root can reach; a directory may exist already and keeps its entries."""
    folder, _, name = entry.path.rpartition("/")
    if entry.data is not None:
        parent = os.open(folder or ".", trees.DIRECTORY, dir_fd=top)
        try:
            _discard(parent, name, trash)
            trees.write_file(parent, trees.Entry(name, entry.mode, entry.data), uid)
        finally:
            os.close(parent)
        return
    if not _is_directory(top, entry.path):
        _discard(top, entry.path, trash)
        os.mkdir(entry.path, 0o700, dir_fd=top)
    descriptor = os.open(entry.path, trees.DIRECTORY, dir_fd=top)
    try:
        trees.set_owner(descriptor, uid, entry.mode)
    finally:
        os.close(descriptor)


def _discard(directory: int, name: str, trash: int) -> None:
    try:
        os.rename(name, secrets.token_hex(16), src_dir_fd=directory, dst_dir_fd=trash)
    except FileNotFoundError:
        pass


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
