"""One lock for all changes of the ledger, the accounts and the trees: one writer at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Iterator, List, Tuple

from agent.helper.ledger.ledger import Ledger
from agent.helper.trees import trash, trees
from agent.shared.errors import InUse
from agent.shared.file_lock import open_lock, wait_for

LOCK = "/var/lib/codesmith-helper/lock"
LOCK_WAIT_S = 45.0

# The lock's descriptor while this process holds it. Account tools inherit it, so that one which outlives its helper
# still keeps others out.
_held: List[int] = []


@contextmanager
def exclusive_ledger(*, frees_space: bool = False) -> Iterator[Ledger]:
    """Hold the lock and give the ledger; staging is cleaned first, the trash is emptied after the lock is released.

    InUse when another change takes longer than LOCK_WAIT_S. LimitReached on a full disk, unless the change frees space.
    """
    descriptor = open_lock(LOCK)
    try:
        _lock(descriptor)
        _held.append(descriptor)
        trees.clean_staging()
        ledger = Ledger()
        try:
            if not frees_space:
                ledger.ensure_room()
            yield ledger
        finally:
            ledger.close()
    finally:
        _held.clear()
        os.close(descriptor)
        trash.empty()


def close_in_child() -> None:
    """Close the lock in a forked child that acts as a user, so that a child that hangs blocks nobody."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


def lock_descriptors() -> Tuple[int, ...]:
    """Return the lock's descriptor for a program that must keep the lock until it ends; () when it is not held."""
    return tuple(_held)


@contextmanager
def read_ledger() -> Iterator[Ledger]:
    """Give the ledger for reading, without the lock: other changes go on."""
    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()


def _lock(descriptor: int) -> None:
    if not wait_for(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), LOCK_WAIT_S):
        raise InUse("another change on this node takes too long", hint="try again")
