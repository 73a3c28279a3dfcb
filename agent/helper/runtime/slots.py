"""Locks around jobs: a shared lock per uid, held from before the last check until the job has ended.

A change that marks a user as disabled or leaving, and then finds its lock free, knows that no job of it starts any
more. A second lock keeps clones apart from commands without network, a third limits the number of jobs.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Iterator

from agent.shared.errors import InUse, LimitReached
from agent.shared.file_lock import open_lock

USERS_PATH = "/var/lib/codesmith-helper/jobs.lock"
# Separate files: closing any descriptor of a file releases all locks that the process has on it.
NETWORK_PATH = "/var/lib/codesmith-helper/network.lock"
SLOTS_PATH = "/var/lib/codesmith-helper/places.lock"
# Fewer than the helper's children: the others are for changes, however long jobs and clones take.
SLOTS = 96


@contextmanager
def hold_user(uid: int) -> Iterator[None]:
    """Hold the uid's lock together with its other jobs."""
    descriptor = open_lock(USERS_PATH)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, uid)
        yield
    finally:
        os.close(descriptor)


def is_idle(uid: int) -> bool:
    """Tell whether no job holds the uid's lock."""
    descriptor = open_lock(USERS_PATH)
    try:
        return _try_lock(descriptor, fcntl.LOCK_EX, uid)
    finally:
        os.close(descriptor)


@contextmanager
def hold_slot() -> Iterator[None]:
    """Hold one of the node's slots for jobs; LimitReached when all are taken."""
    descriptor = open_lock(SLOTS_PATH)
    try:
        if not any(_try_lock(descriptor, fcntl.LOCK_EX, slot) for slot in range(SLOTS)):
            raise LimitReached(f"{SLOTS} jobs run on this node already", hint="try again")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_network(uid: int, *, alone: bool) -> Iterator[None]:
    """Hold the uid's network lock: `alone` for a clone, shared for a command without network; InUse if it is taken."""
    descriptor = open_lock(NETWORK_PATH)
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, uid):
            other = "commands run" if alone else "a repository is being cloned"
            problem = f"{other} in a workspace of this user that has no network: the one could use the other's"
            raise InUse(problem, hint="try again")
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int, byte: int) -> bool:
    """Lock one byte of a lock file without waiting; False when another process has it."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True
