"""One writer at a time: the ledger, the accounts and the trees are changed under one lock."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import Iterator

from agent.errors import InUse
from agent.helper import trees
from agent.helper.ledger import Ledger

LOCK = "/var/lib/codesmith-helper/lock"
LOCK_WAIT_S = 45.0
PAUSE_S = 0.01


@contextmanager
def exclusive_ledger() -> Iterator[Ledger]:
    """Hold the ledger alone: one writer at a time, for accounts and trees too. Leftovers are swept first."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor)
        trees.sweep()
        ledger = Ledger()
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        os.close(descriptor)


@contextmanager
def read_ledger() -> Iterator[Ledger]:
    """Look into the ledger without holding it: other changes go on."""
    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InUse("another change on this node takes too long", hint="try again") from None
            time.sleep(PAUSE_S)  # flock has no deadline of its own
