"""Directories of users, made and removed by root without ever following what a user put there.

Every step is an *at() call on a held descriptor, O_NOFOLLOW, one path component at a time, from a base that only root
can write. A tree is made whole in a root-only staging directory and then renamed into place; it is removed by renaming
it into a root-only trash, which trash.py empties.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from agent.shared import acls, names
from agent.shared.errors import NotManaged
from agent.shared.ownership import is_sealed

STAGING, TRASH = names.STAGING, names.TRASH
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LINKS_MAX = 8
# What no name begins with.
TAKEN = "@"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """One file (with data) or directory (without) inside a tree; parents come before children."""

    path: str
    mode: int
    data: Optional[bytes] = None


@contextmanager
def open_base(path: str) -> Iterator[int]:
    """Hold a directory whose every component belongs to root and is closed to other writers.

    The base itself (/srv, /srv/codesmith) may be a link of root: it is in a directory that only root can write, so
    nobody else can change where it leads. What is below the base is never a link.
    """
    parts, links = path.strip("/").split("/"), 0
    below = len(parts) - names.BASE.count("/") if f"{path}/".startswith(f"{names.BASE}/") else len(parts)
    descriptor = os.open("/", DIRECTORY)
    try:
        while parts:
            part = parts.pop(0)
            target = _root_link(part, descriptor, path) if len(parts) >= below else ""
            links += bool(target)
            if links > LINKS_MAX:
                raise NotManaged(f"{path}: {os.strerror(errno.ELOOP)}")
            parts = [*target.split("/"), *parts] if target else parts
            if (target and not target.startswith("/")) or part in ("", "."):
                continue
            inner = os.open("/", DIRECTORY) if target else _open_root_owned(part, descriptor, path)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def real_path(path: str) -> str:
    """Return a path of ours with the links in its base resolved: as the kernel lists mounts."""
    return os.path.realpath(names.BASE) + path[len(names.BASE) :] if path.startswith(f"{names.BASE}/") else path


def _root_link(name: str, directory: int, path: str) -> str:
    """Return where a link of root leads; nothing when it is no link."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    if not stat.S_ISLNK(found.st_mode):
        return ""
    if found.st_uid != 0:
        raise NotManaged(f"{path}: the link {name!r} must belong to root")
    return os.readlink(name, dir_fd=directory)


def exists(parent: str, name: str) -> bool:
    """Tell whether there is anything of that name, a dangling link too."""
    with open_base(parent) as base:
        return is_in(base, name)


def is_in(directory: int, name: str) -> bool:
    """Tell whether there is anything of that name in a held directory."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def make(parent: str, name: str, uid: int, mode: int, entries: Sequence[Entry]) -> None:
    """Make PARENT/NAME with all its entries, owned by `uid`; it appears whole or not at all."""
    temporary = f"{name}.{secrets.token_hex(8)}"
    with open_base(STAGING) as staging, open_base(parent) as base:
        try:
            _directory(staging, temporary, uid, mode, entries)
            os.fsync(staging)
            rename_new(staging, temporary, base, name)
        except (NotManaged, OSError):
            remove(STAGING, temporary)
            raise
        os.fsync(base)


def remove(parent: str, name: str) -> bool:
    """Move PARENT/NAME, whatever it is, into the trash; False when there is nothing of that name."""
    with open_base(parent) as base:
        return _throw(base, name)


def taken(name: str) -> str:
    """Return the name, in staging, of a tree that changes hands."""
    return TAKEN + name


def remove_inside(parent: str, owned: str, uid: int, folders: Sequence[str], name: str) -> bool:
    """Move PARENT/OWNED/FOLDERS/NAME below directories of `uid` into the trash; False when it is not there.

    The user may swap everything meanwhile: each directory is held and looked at, and what has the name in the last one
    is renamed away, a link as the link that it is.
    """
    with _open_owned(parent, uid, (owned, *folders)) as inner:
        return inner is not None and _throw(inner, name)


def _throw(directory: int, name: str) -> bool:
    with open_base(TRASH) as trash:
        os.fchmod(trash, 0o700)
        try:
            os.rename(name, secrets.token_hex(16), src_dir_fd=directory, dst_dir_fd=trash)
        except FileNotFoundError:
            return False
        os.fsync(trash)
        os.fsync(directory)
    return True


def read_inside(parent: str, owned: str, uid: int, folders: Sequence[str], name: str) -> bytes:
    """Return the first bytes of a plain file of `uid` below directories of `uid`; nothing when there is none."""
    with _open_owned(parent, uid, (owned, *folders)) as inner:
        if inner is None:
            return b""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inner)
        except OSError:
            return b""
        try:
            found = os.fstat(descriptor)
            return os.read(descriptor, 4096) if stat.S_ISREG(found.st_mode) and found.st_uid == uid else b""
        finally:
            os.close(descriptor)


@contextmanager
def _open_owned(parent: str, uid: int, folders: Sequence[str]) -> Iterator[Optional[int]]:
    """Hold PARENT/FOLDERS, each of them a real directory of `uid`, or sealed; or nothing when one is not."""
    with open_base(parent) as base:
        held = os.dup(base)
        try:
            for folder in folders:
                try:
                    inner = os.open(folder, DIRECTORY, dir_fd=held)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    yield None
                    return
                os.close(held)
                held = inner
                found = os.fstat(held)
                if found.st_uid != uid and not is_sealed(found):
                    yield None
                    return
            yield held
        finally:
            os.close(held)


def sweep() -> None:
    """Throw away what an interrupted make left in staging. Taken trees stay: they change hands."""
    with open_base(STAGING) as base:
        left = [name for name in os.listdir(base) if not name.startswith(TAKEN)]
    for name in left:
        remove(STAGING, name)


def _open_root_owned(part: str, parent: int, path: str) -> int:
    try:
        descriptor = os.open(part, DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise NotManaged(f"{path}: {error.strerror}", hint="inv node.prepare repairs it") from None
    found = os.fstat(descriptor)
    if found.st_uid != 0 or found.st_mode & 0o022:
        os.close(descriptor)
        raise NotManaged(
            f"{path}: {part!r} must belong to root and be closed to other writers",
            hint=f"on the node: ls -ld {path}; then inv node.prepare",
        )
    return descriptor


def _directory(parent: int, name: str, uid: int, mode: int, entries: Sequence[Entry]) -> None:
    os.mkdir(name, 0o700, dir_fd=parent)
    top = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        acls.remove(top)  # what staging had to inherit goes no further
        made: List[Tuple[str, int]] = []
        for entry in entries:
            if entry.data is None:
                os.mkdir(entry.path, 0o700, dir_fd=top)
                made.append((entry.path, entry.mode))
            else:
                write_file(top, entry, uid)
        # From the inside out: whatever holds entries is synced after them.
        for path, inner_mode in reversed(made):
            inner = os.open(path, DIRECTORY, dir_fd=top)
            try:
                settle(inner, uid, inner_mode)
            finally:
                os.close(inner)
        settle(top, uid, mode)
    finally:
        os.close(top)


def write_file(top: int, entry: Entry, uid: int) -> None:
    """Write a new file in the directory `top`."""
    descriptor = os.open(entry.path, NEW_FILE, 0o600, dir_fd=top)
    try:
        data = memoryview(entry.data or b"")
        while data:
            data = data[os.write(descriptor, data) :]
        settle(descriptor, uid, entry.mode)
    finally:
        os.close(descriptor)


def settle(descriptor: int, uid: int, mode: int) -> None:
    """Give what is whole to its owner, durably."""
    os.fchown(descriptor, uid, uid)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)


def rename_new(source: int, temporary: str, base: int, name: str) -> None:
    """Rename into place. Only root writes the base and the ledger's lock is held, so the check stays true."""
    if is_in(base, name):
        raise NotManaged(f"a directory {name!r} exists and is not ours")
    os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=base)


def is_owned_directory(parent: str, name: str, uid: int, *, or_sealed: bool = False) -> bool:
    """Tell whether PARENT/NAME is a real directory that belongs to `uid`, or one that is closed with its user."""
    with open_base(parent) as base:
        try:
            found = os.stat(name, dir_fd=base, follow_symlinks=False)
        except FileNotFoundError:
            return False
    return stat.S_ISDIR(found.st_mode) and (found.st_uid == uid or (or_sealed and is_sealed(found)))
