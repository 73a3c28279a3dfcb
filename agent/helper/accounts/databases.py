"""The account databases in /etc: whether they can be changed now, and the locks that a killed tool left behind.

Asked before the first side effect of whatever adds, changes or removes an account, so that it is refused whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Sequence

from agent.helper.trees import mounts
from agent.shared.errors import CommandFailed, InUse
from agent.shared.os_errors import NO_ROOM

FOLDER = "/etc"
DATABASES = ("passwd", "shadow", "group", "gshadow")
# What usermod changes when it closes or opens an account; and what useradd, userdel and groupdel open to write.
ACCESS, ALL = ("passwd", "shadow"), (*DATABASES, "subuid", "subgid")
# Beside a database: its backup and the new one, as shadow's tools make them.
BESIDE = ("", "-", "+")
# Held by each of shadow's tools (lckpwdf) before it makes a lock file for the database that it changes.
LOCK = ".pwd.lock"
WAIT_S = 5.0
PAUSE_S = 0.02
# For a copy of each database, a bit longer, beside it.
SPARE_BYTES = 64 << 10
# What a file system without nameless files says.
NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def check_changeable(make_room: Optional[Callable[[], bool]] = None, files: Sequence[str] = ALL) -> None:
    """Raise unless the tools can change `files` now: InUse when somebody has the lock, OSError for the disk.

    With `make_room` a full disk is given a second chance.
    """
    with _held_lock():
        _remove_stale_locks()
        _check_files(files)
        try:
            _check_room()
        except OSError as error:
            if error.errno not in NO_ROOM or make_room is None or not make_room():
                raise
            _check_room()


def check_lock() -> None:
    """Raise unless the tools get their lock now, and can write all files: how full the disk is does not matter."""
    with _held_lock():
        _remove_stale_locks()
        _check_files(ALL)


@contextmanager
def _held_lock() -> Iterator[None]:
    """Hold the lock of the account databases for a moment."""
    descriptor = os.open(f"{FOLDER}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + WAIT_S
        while not _is_locked_by_us(descriptor):
            if time.monotonic() > deadline:
                raise InUse("another program holds the lock of the account databases", hint=f"fuser -v {FOLDER}/{LOCK}")
            time.sleep(PAUSE_S)  # such a lock has no deadline of its own
        yield
    finally:
        os.close(descriptor)


def _is_locked_by_us(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _remove_stale_locks() -> None:
    """Remove lock files whose maker is gone, also when its pid is somebody else's by now; InUse for one that counts.

    The tools believe any pid that lives: after a power cut one such file would keep them from working for ever.
    """
    kinds = "|".join(DATABASES)
    for name in os.listdir(FOLDER):
        if not re.fullmatch(rf"({kinds})\.(lock|[0-9]+)", name):
            continue
        path = f"{FOLDER}/{name}"
        pid = _maker(path)
        if pid is None:
            os.unlink(path)
        elif name.endswith(".lock"):
            raise InUse(f"process {pid} holds {path}", hint=f"ps -p {pid}; if it is no such tool: rm {path}")


def _maker(path: str) -> Optional[int]:
    """Return the process that made a lock file; None when it has ended."""
    with open(path, "rb") as file:
        text, made = file.read(32).rstrip(b"\0\n").decode("ascii", "replace"), os.fstat(file.fileno()).st_mtime
    if not text.isdecimal():
        return None
    try:
        with open(f"/proc/{text}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat", encoding="ascii") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    except OSError:
        return None
    began = boot + ticks / os.sysconf("SC_CLK_TCK")
    # btime is in whole seconds: in doubt it is the maker.
    return int(text) if began < made + 2 else None


def _check_files(files: Sequence[str]) -> None:
    """Raise when one of the files, or what the tools put beside it, cannot be replaced: they notice it half-way."""
    for path in (FOLDER, *(f"{FOLDER}/{name}{end}" for name in files for end in BESIDE)):
        if not os.path.lexists(path):
            continue
        if path != FOLDER:
            mounts.refuse_mounts(path)
            _check_plain(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mounts.refuse_fixed_inode(descriptor, path)
        finally:
            os.close(descriptor)


def _check_plain(path: str) -> None:
    """Raise for what is no file on the disk of /etc, where the tools rename over it."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != os.stat(FOLDER).st_dev:
        raise CommandFailed(
            f"{path} is not a plain file on the disk of {FOLDER}: the account tools cannot replace it",
            hint=f"on the node: ls -ld {path}; findmnt --target {path}", command="rename", exit_code=errno.EXDEV,
            stderr=os.strerror(errno.EXDEV),
        )  # fmt: skip


def _check_room() -> None:
    """Raise OSError when the disk has no room for new copies, or takes nothing at all."""
    size = sum(os.path.getsize(f"{FOLDER}/{name}") for name in DATABASES if os.path.exists(f"{FOLDER}/{name}"))
    try:
        descriptor = os.open(FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in NO_NAMELESS_FILES:
            return
        raise
    try:
        os.posix_fallocate(descriptor, 0, size + SPARE_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, FOLDER) from None
    finally:
        os.close(descriptor)
