"""Which users may have a job under way: a shared lock per uid, held from before the check until the job has ended.

So whoever marked a user as disabled or leaving, and then found its lock free, knows that no job of it starts any more.
A second lock keeps clones apart from commands that have no network, a third bounds how many jobs there are.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Iterator

from agent.shared.errors import InUse, LimitReached
from agent.shared.file_lock import open_lock

PATH = "/var/lib/codesmith-helper/jobs.lock"
# A file of its own: closing any descriptor of a file gives up all locks that a process has on it.
NETWORK_PATH = "/var/lib/codesmith-helper/network.lock"
PLACES_PATH = "/var/lib/codesmith-helper/places.lock"
# Fewer than what the helper does at once: the rest is for changes, whatever jobs and clones take long.
PLACES = 96


@contextmanager
def hold(uid: int) -> Iterator[None]:
    """Hold the uid's lock together with other jobs."""
    descriptor = open_lock(PATH)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, uid)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def take_place() -> Iterator[None]:
    """Hold one of the places for jobs; LimitReached when all are taken."""
    descriptor = open_lock(PLACES_PATH)
    try:
        if not any(_takes(descriptor, place) for place in range(PLACES)):
            raise LimitReached(f"{PLACES} jobs run on this node already", hint="try again")
        yield
    finally:
        os.close(descriptor)


def _takes(descriptor: int, place: int) -> bool:
    """Take one place if it is free; tell whether we have it now."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def hold_network(uid: int, *, alone: bool) -> Iterator[None]:
    """Hold the uid for a clone (`alone`) into a workspace without network, or for a command in one; else InUse."""
    descriptor = open_lock(NETWORK_PATH)
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
    descriptor = open_lock(PATH)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, uid)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True
