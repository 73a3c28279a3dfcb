"""Make and remove directories of users as root, without ever following a link of a user.

Every step is an *at() call on a held descriptor, with O_NOFOLLOW, one path component at a time, from a base that only
root can write. A tree is made in a root-only staging directory and then renamed into place. It is removed by renaming
it into a root-only trash, which trash.py empties.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from agent.helper.trees import projects
from agent.shared import acls, names
from agent.shared.errors import NotManaged
from agent.shared.ownership import is_sealed

STAGING, TRASH = names.STAGING, names.TRASH
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LINKS_MAX = 8
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """A file (with data) or directory (without) in a tree; parents come before children."""

    path: str
    mode: int
    data: Optional[bytes] = None


@contextmanager
def open_base(path: str) -> Iterator[int]:
    """Hold a directory; NotManaged unless every component belongs to root and only root can write it.

    The base itself (/srv, /srv/codesmith) may be a link that belongs to root: it is in a directory that only root can
    write, so nobody else can change its target. Below the base no component may be a link.
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
    """Return a path with the links in its base resolved, as the kernel lists mounts."""
    return os.path.realpath(names.BASE) + path[len(names.BASE) :] if path.startswith(f"{names.BASE}/") else path


def _root_link(name: str, directory: int, path: str) -> str:
    """Return the target of a link that belongs to root; "" when it is not a link, NotManaged for another owner."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    if not stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_uid != 0:
        raise NotManaged(f"{path}: the link {name!r} must belong to root")
    return os.readlink(name, dir_fd=directory)


def exists(parent: str, name: str) -> bool:
    """Tell whether PARENT has an entry of that name, also a dangling link."""
    with open_base(parent) as base:
        return has_entry(base, name)


def has_entry(directory: int, name: str) -> bool:
    """Tell whether a held directory has an entry of that name."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def make(parent: str, name: str, uid: int, mode: int, entries: Sequence[Entry]) -> None:
    """Make PARENT/NAME with all its entries, owned by `uid` and in its project; it appears complete or not at all."""
    temporary = f"{name}.{os.urandom(8).hex()}"
    with open_base(STAGING) as staging, open_base(parent) as base:
        try:
            _directory(staging, temporary, uid, mode, entries)
            rename_new(staging, temporary, base, name)
        except (NotManaged, OSError):
            remove(STAGING, temporary)
            raise
        os.fsync(base)


def remove(parent: str, name: str) -> bool:
    """Move PARENT/NAME, whatever it is, into the trash; False when there is no such entry."""
    with open_base(parent) as base:
        return _move_to_trash(base, name)


def remove_inside(parent: str, owned: str, uid: int, folders: Sequence[str], name: str) -> bool:
    """Move PARENT/OWNED/FOLDERS/NAME into the trash, below directories of `uid`; False when it does not exist.

    The user may exchange anything meanwhile. So each directory is held and its owner checked, and the entry of that
    name in the last one is renamed; a link is moved, not followed.
    """
    with _open_owned(parent, uid, (owned, *folders)) as inner:
        return inner is not None and _move_to_trash(inner, name)


def _move_to_trash(directory: int, name: str) -> bool:
    with open_base(TRASH) as trash:
        os.fchmod(trash, 0o700)
        try:
            os.rename(name, os.urandom(16).hex(), src_dir_fd=directory, dst_dir_fd=trash)
        except FileNotFoundError:
            return False
        os.fsync(trash)
        os.fsync(directory)
    return True


def read_inside(parent: str, owned: str, uid: int, folders: Sequence[str], name: str) -> bytes:
    """Return the first 4096 bytes of a plain file of `uid` below directories of `uid`; b"" when there is none."""
    with _open_owned(parent, uid, (owned, *folders)) as inner:
        if inner is None:
            return b""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inner)
        except OSError:
            return b""
        try:
            status = os.fstat(descriptor)
            return os.read(descriptor, 4096) if stat.S_ISREG(status.st_mode) and status.st_uid == uid else b""
        finally:
            os.close(descriptor)


@contextmanager
def _open_owned(parent: str, uid: int, folders: Sequence[str]) -> Iterator[Optional[int]]:
    """Hold PARENT/FOLDERS, each a real directory that belongs to `uid` or is sealed; None when one is not."""
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
                status = os.fstat(held)
                if status.st_uid != uid and not is_sealed(status):
                    yield None
                    return
            yield held
        finally:
            os.close(held)


def ensure_closed_directory(parent: str, owned: str, uid: int, name: str) -> None:
    """Have an empty directory of root's in PARENT/OWNED, which is of `uid`; what is there instead keeps its content.

    That gets another name beside it. Nothing of `uid` runs meanwhile.
    """
    with _open_owned(parent, uid, (owned,)) as inner:
        if inner is None:
            raise NotManaged(f"the directory {parent}/{owned} is not the one that CodeSmith made")
        try:
            status = os.stat(name, dir_fd=inner, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(status.st_mode) and status.st_uid == 0:
                return
            os.rename(name, f"{name}.{os.urandom(4).hex()}", src_dir_fd=inner, dst_dir_fd=inner)
        os.mkdir(name, 0o700, dir_fd=inner)


def clean_staging() -> None:
    """Move what an interrupted `make` left in staging into the trash."""
    with open_base(STAGING) as base:
        left = os.listdir(base)
    for name in left:
        remove(STAGING, name)


def _open_root_owned(part: str, parent: int, path: str) -> int:
    try:
        descriptor = os.open(part, DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise NotManaged(f"{path}: {error.strerror}", hint="inv node.prepare repairs it") from None
    status = os.fstat(descriptor)
    if status.st_uid != 0 or status.st_mode & 0o022:
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
        acls.remove(top)  # it may have inherited some from staging
        projects.put_if_possible(top, uid)
        made: List[Tuple[str, int]] = []
        for entry in entries:
            if entry.data is None:
                os.mkdir(entry.path, 0o700, dir_fd=top)
                made.append((entry.path, entry.mode))
            else:
                write_file(top, entry, uid)
        # From the inside out: a directory is synced after its entries.
        for path, inner_mode in reversed(made):
            inner = os.open(path, DIRECTORY, dir_fd=top)
            try:
                set_owner(inner, uid, inner_mode)
            finally:
                os.close(inner)
        set_owner(top, uid, mode)
    finally:
        os.close(top)


def write_file(top: int, entry: Entry, uid: int) -> None:
    """Write a new file in the directory `top`."""
    descriptor = os.open(entry.path, NEW_FILE, 0o600, dir_fd=top)
    try:
        data = memoryview(entry.data or b"")
        while data:
            data = data[os.write(descriptor, data) :]
        set_owner(descriptor, uid, entry.mode)
    finally:
        os.close(descriptor)


def set_owner(descriptor: int, uid: int, mode: int) -> None:
    """Set owner and mode of a complete file or directory, durably."""
    os.fchown(descriptor, uid, uid)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)


def rename_new(source: int, temporary: str, base: int, name: str) -> None:
    """Rename into place; NotManaged when the name is taken.

    Only root can write the base, and the ledger's lock is held, so nothing can take the name after the check.
    """
    if has_entry(base, name):
        raise NotManaged(f"a directory {name!r} exists and was not made by CodeSmith")
    os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=base)


def is_owned_directory(parent: str, name: str, uid: int, *, or_sealed: bool = False) -> bool:
    """Tell whether PARENT/NAME is a real directory that belongs to `uid`; `or_sealed` accepts a sealed one too."""
    with open_base(parent) as base:
        try:
            status = os.stat(name, dir_fd=base, follow_symlinks=False)
        except FileNotFoundError:
            return False
    return stat.S_ISDIR(status.st_mode) and (status.st_uid == uid or (or_sealed and is_sealed(status)))
