"""Which users may have a job under way: a shared lock per uid, held from before the check until the job has ended.

So whoever marked a user as disabled or leaving, and then found its lock free, knows that no job of it starts any more.
A second lock keeps clones apart from commands that have no network.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Iterator

from agent.errors import InUse

PATH = "/var/lib/codesmith-helper/jobs.lock"
# A file of its own: closing any descriptor of a file gives up all locks that a process has on it.
NETWORK_PATH = "/var/lib/codesmith-helper/network.lock"


@contextmanager
def hold(uid: int) -> Iterator[None]:
    """Hold the uid's lock together with other jobs."""
    descriptor = _open(PATH)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, uid)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_network(uid: int, *, alone: bool) -> Iterator[None]:
    """Hold the uid for a clone (`alone`) into a workspace without network, or for a command in one; else InUse."""
    descriptor = _open(NETWORK_PATH)
    try:
        try:
            fcntl.lockf(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB, 1, uid)
        except (BlockingIOError, PermissionError):
            other = "commands run" if alone else "a repository is being cloned"
            problem = f"{other} in a workspace of this user that has no network: the one could use the other's"
            raise InUse(problem, hint="try again") from None
        yield
    finally:
        os.close(descriptor)


def is_free(uid: int) -> bool:
    """Tell whether no job holds the uid's lock."""
    descriptor = _open(PATH)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, uid)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
