"""One exchange of a repository at a time; what an interrupted one locked is unlocked before the next."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import stat
import time
from typing import Iterator, List

from agent.git.own_directory import NoRepository

# In .git: locked while an exchange runs, and not empty until it has ended by itself.
FILE = "codesmith-exchange"
WAIT_S = 10.0
POLL_S = 0.05
# What git leaves when it is killed: files beside what it was about to write.
TOP = ("*.lock", "objects/pack/tmp_*", "objects/*/tmp_obj_*", "objects/tmp_objdir-*/**", "objects/incoming-*/**")


class Busy(Exception):
    """Another exchange of the same repository runs."""


@contextlib.contextmanager
def held(path: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the git directory `path` for one exchange; Busy if it is held after `wait_s`.

    What an earlier exchange left behind is removed first. What this one leaves is removed if it fails.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(path, FILE), flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise NoRepository from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NoRepository
        _lock(descriptor, wait_s)
        is_left = found.st_size > 0 and not remove_left(path, found.st_mtime_ns)
        os.pwrite(descriptor, b"1\n", 0)
        if is_left:  # a git of the login runs, and the next exchange looks again
            os.utime(descriptor, ns=(found.st_mtime_ns, found.st_mtime_ns))
        begun = os.fstat(descriptor).st_mtime_ns
        try:
            yield
        except BaseException:
            is_left = not remove_left(path, begun)
            raise
        finally:
            if not is_left:
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def remove_left(path: str, since_ns: int) -> bool:
    """Remove locks and unfinished files no older than `since_ns`; False when a git runs that they may be of."""
    if git_runs():
        return False
    found: List[str] = [name for pattern in TOP for name in glob.glob(os.path.join(glob.escape(path), pattern))]
    for folder, _, names in os.walk(os.path.join(path, "refs")):
        found += [os.path.join(folder, name) for name in names if name.endswith(".lock")]
    for name in found:
        with contextlib.suppress(OSError):
            status = os.lstat(name)
            if stat.S_ISREG(status.st_mode) and status.st_mtime_ns >= since_ns:
                os.unlink(name)
    return True


def _lock(descriptor: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy from None
        time.sleep(POLL_S)


def git_runs() -> bool:
    """Return whether a git runs in this workspace: what is locked may be its own."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == os.getuid():
                with open(f"/proc/{entry}/comm", "rb") as file:
                    if file.read().strip().startswith(b"git"):
                        return True
    return False
