"""A tree changes hands, and nothing that its old owner kept is a way back in.

The tree is moved into root's staging first, where nobody finds it by path. Then every directory is made root's before
it is read, so that its entries stand still, and a new one of the new owner takes its place when all below it is done.
It takes constant descriptors at any depth. Whatever was cut off may be run again from the start.
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
# A front end that was killed asks again while the helper still does what it was asked first.
WAIT_S = 5.0


class Change(NamedTuple):
    """From whom to whom."""

    old_uids: AbstractSet[int]
    uid: int


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the tree of a workspace; InUse when somebody else does, and is not done soon."""
    descriptor = open_lock(LOCK)
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
        if trees.is_in(base, name):
            trees.rename_new(base, name, staging, trees.taken(name))
            os.fsync(staging)
            os.fsync(base)
        elif not trees.is_in(staging, trees.taken(name)):
            raise NotManaged(f"the directory {parent}/{name} is gone")


def change_owner(name: str, change: Change, entries: Sequence[trees.Entry]) -> None:
    """Give a taken tree to `change.uid`; `entries` (one level deep) are written anew in it."""
    trees.remove(trees.STAGING, copies_of(name))  # of a run that was cut off
    with trees.open_base(trees.STAGING) as staging, trees.open_base(trees.TRASH) as trash:
        copies, halves = _folder(copies_of(name), staging), _folder(halves_of(name), staging)
        workshop = anew.Workshop(change.uid, copies, halves)
        try:
            _Walk(change, workshop, staging).go(trees.taken(name))
            # From here on nobody but root has a way to any directory of the tree.
            top = os.open(trees.taken(name), trees.DIRECTORY, dir_fd=staging)
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


def halves_of(name: str) -> str:
    """Return the name, in staging, of the folder for directories that do not have all their entries yet."""
    return trees.taken(f"{name}.halves")


def places_of(name: str) -> Tuple[Tuple[str, str], ...]:
    """Return where the tree of a workspace can be: in its place, or in staging while it changes hands."""
    folders = (trees.taken(name), copies_of(name), halves_of(name))
    return ((WORKSPACES, name), *((STAGING, folder) for folder in folders))


def _folder(name: str, staging: int) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=staging)
    except FileExistsError:
        pass
    descriptor = os.open(name, trees.DIRECTORY, dir_fd=staging)
    acls.remove(descriptor)  # what is made in there would inherit it
    return descriptor


class _Level(NamedTuple):
    """A directory on the way: its name, what it was, what takes its place, which directories in it are still to do."""

    name: str
    found: os.stat_result
    half: str
    inner: List[str]


class _Walk:
    """Depth first with one descriptor. A directory is root's from before it is read until all below it is done.

    Each is moved over to what takes the place of its parent before it is entered, so it is found by two names.
    """

    def __init__(self, change: Change, workshop: anew.Workshop, staging: int) -> None:
        self._change, self._workshop, self._staging = change, workshop, staging
        self._levels: List[_Level] = []
        self._is_leased = False

    def go(self, top: str) -> None:
        """Change `top` and everything below it. InUse when something has to wait for a lease."""
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
            raise InUse("leases on files in it end within a minute", hint="try again then")

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
            self._workshop.end(here, done.found, done.half, done.name, self._staging)
            return os.dup(self._staging)
        place = f"{self._levels[-1].half}/{done.name}"
        self._workshop.end(here, done.found, done.half, place, self._workshop.halves)
        if len(self._levels) == 1:
            return os.open(self._levels[0].name, trees.DIRECTORY, dir_fd=self._staging)
        return self._workshop.open(f"{self._levels[-2].half}/{self._levels[-1].name}")

    def _open(self, name: str, parent: int) -> int:
        try:
            inner = os.open(name, trees.DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.EACCES):  # in user space: without its process, or not for root
                raise anew.foreign(name) from None
            raise
        if os.fstat(inner).st_dev != self._device:
            os.close(inner)
            raise anew.foreign(name)
        return inner

    def _enter(self, directory: int, name: str) -> None:
        """Make a directory root's, and change what is in it but directories."""
        os.fchown(directory, 0, 0)
        # From here on its old owner changes neither it nor its entries; the rights of owner and group are kept in it.
        acls.remove(directory)
        found = os.fstat(directory)
        os.fchmod(directory, found.st_mode & anew.KEPT_BITS)
        half = self._workshop.begin(directory)
        inner = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                else:
                    self._change_entry(entry.name, directory, half)
        self._levels.append(_Level(name, found, half, inner))

    def _change_entry(self, name: str, directory: int, half: str) -> None:
        """Replace what is no directory. Its name is safe to use: only root can change entries of `directory` now."""
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if found.st_dev != self._device or stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
            return  # somebody else's mount, or a device, which only root can have made
        if stat.S_ISLNK(found.st_mode):
            self._workshop.replace_link(name, directory, found)
        elif stat.S_ISFIFO(found.st_mode):
            self._workshop.replace_pipe(name, directory, found)
        elif stat.S_ISREG(found.st_mode) and not self._is_secret(found):
            try:
                self._workshop.replace_file(name, directory, found, half)
            except BlockingIOError:
                self._is_leased = True  # from now on it runs out; nobody can take another one
        else:  # a socket has no process any more
            os.unlink(name, dir_fd=directory)

    def _is_secret(self, found: os.stat_result) -> bool:
        """Tell whether a file is somebody else's, who has it under another name, and was closed to the old owner."""
        is_ours = found.st_uid in self._change.old_uids | {self._change.uid}
        return found.st_nlink > 1 and not is_ours and not found.st_mode & stat.S_IROTH


def _write_anew(top: int, entry: trees.Entry, uid: int, trash: int) -> None:
    """Write one entry of a tree that only root has a way to; a directory may have been there, with what is in it."""
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
        trees.settle(descriptor, uid, entry.mode)
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
