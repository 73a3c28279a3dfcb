"""One writer at a time: the ledger, the accounts and the trees are changed under one lock."""

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


# The lock as this process has it. Account tools inherit it: one that outlives its helper still keeps others out.
_held: List[int] = []


@contextmanager
def exclusive_ledger(*, makes_room: bool = False) -> Iterator[Ledger]:
    """Hold the ledger alone: one writer at a time, for accounts and trees too. Leftovers are swept first.

    What was thrown away meanwhile is taken apart when others may go on. LimitReached on a full disk, unless what is to
    be done makes room.
    """
    descriptor = open_lock(LOCK)
    try:
        _lock(descriptor)
        _held.append(descriptor)
        trees.sweep()
        ledger = Ledger()
        try:
            if not makes_room:
                ledger.ensure_room()
            yield ledger
        finally:
            ledger.close()
    finally:
        _held.clear()
        os.close(descriptor)
        trash.empty()


def let_go() -> None:
    """Close the lock in a forked child that does a user's work: should it hang, it keeps nobody waiting."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


def held() -> Tuple[int, ...]:
    """Return the lock's descriptor for a program that must not be outrun; nothing when it is not held."""
    return tuple(_held)


@contextmanager
def read_ledger() -> Iterator[Ledger]:
    """Look into the ledger without holding it: other changes go on."""
    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()


def _lock(descriptor: int) -> None:
    if not wait_for(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), LOCK_WAIT_S):
        raise InUse("another change on this node takes too long", hint="try again")
