"""The account databases in /etc: whether they can be changed now, and stale locks of killed tools.

Checked before the first side effect of a change to an account, so that it is refused before anything is half-done.
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
# ACCESS is what usermod changes when it closes or opens an account. ALL is what useradd, userdel and groupdel open.
ACCESS, ALL = ("passwd", "shadow"), (*DATABASES, "subuid", "subgid")
# A database, its backup and its new copy, as shadow's tools name them.
SUFFIXES = ("", "-", "+")
# The lock file of a database, and what it was made as.
LOCK_FILE = re.compile(rf"({'|'.join(DATABASES)})\.(lock|[0-9]+)")
# Each of shadow's tools takes this lock (lckpwdf) before it makes a lock file for the database that it changes.
LOCK = ".pwd.lock"
WAIT_S = 5.0
PAUSE_S = 0.02
# A new copy of each database is a bit longer than the old one.
SPARE_BYTES = 64 << 10
# Errors of a file system without O_TMPFILE.
NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def check_changeable(free_reserve: Optional[Callable[[], bool]] = None, files: Sequence[str] = ALL) -> None:
    """Raise unless the tools can change `files` now: InUse when another program has the lock, OSError for the disk.

    On a full disk `free_reserve` is called, and the disk checked again.
    """
    with _held_lock():
        _remove_stale_locks()
        _check_files(files)
        try:
            _check_room()
        except OSError as error:
            if error.errno not in NO_ROOM or free_reserve is None or not free_reserve():
                raise
            _check_room()


def check_lock() -> None:
    """Raise unless the tools can get their lock and write all files now; free space is not checked."""
    with _held_lock():
        _remove_stale_locks()
        _check_files(ALL)


@contextmanager
def _held_lock() -> Iterator[None]:
    """Hold the lock of the account databases during a check; InUse when it is not free within WAIT_S."""
    descriptor = os.open(f"{FOLDER}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + WAIT_S
        while not _is_locked_by_us(descriptor):
            if time.monotonic() > deadline:
                raise InUse("another program holds the lock of the account databases", hint=f"fuser -v {FOLDER}/{LOCK}")
            time.sleep(PAUSE_S)  # lockf has no timeout
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
    """Remove lock files whose process has ended, also if another process has its pid now; InUse for a live lock.

    The tools accept any pid that is alive: after a power cut one stale file could block them for ever.
    """
    for name in os.listdir(FOLDER):
        if not LOCK_FILE.fullmatch(name):
            continue
        path = f"{FOLDER}/{name}"
        pid = _holder(path)
        if pid is None:
            os.unlink(path)
        elif name.endswith(".lock"):
            raise InUse(f"process {pid} holds {path}", hint=f"ps -p {pid}; if it is no account tool: rm {path}")


def _holder(path: str) -> Optional[int]:
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
    started = boot + ticks / os.sysconf("SC_CLK_TCK")
    # btime is in whole seconds: in doubt the process is the one that made the lock.
    return int(text) if started < made + 2 else None


def _check_files(files: Sequence[str]) -> None:
    """Raise when a database, its backup or its new copy cannot be replaced: the tools would fail half-way."""
    found = [path for name in files for suffix in SUFFIXES if os.path.lexists(path := f"{FOLDER}/{name}{suffix}")]
    mounts.refuse_mounts(*found)
    for path in (FOLDER, *found):
        if path != FOLDER:
            _check_plain(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mounts.refuse_immutable_inode(descriptor, path)
        finally:
            os.close(descriptor)


def _check_plain(path: str) -> None:
    """Raise CommandFailed unless it is a plain file on the file system of /etc: the tools rename over it."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_dev != os.stat(FOLDER).st_dev:
        raise CommandFailed(
            f"{path} is not a plain file on the disk of {FOLDER}: the account tools cannot replace it",
            hint=f"on the node: ls -ld {path}; findmnt --target {path}", command="rename", exit_code=errno.EXDEV,
            stderr=os.strerror(errno.EXDEV),
        )  # fmt: skip


def _check_room() -> None:
    """Raise OSError when the disk has no space for new copies, or cannot be written."""
    size_bytes = sum(os.path.getsize(f"{FOLDER}/{name}") for name in DATABASES if os.path.exists(f"{FOLDER}/{name}"))
    try:
        descriptor = os.open(FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in NO_TMPFILE:
            return
        raise
    try:
        os.posix_fallocate(descriptor, 0, size_bytes + SPARE_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, FOLDER) from None
    finally:
        os.close(descriptor)
