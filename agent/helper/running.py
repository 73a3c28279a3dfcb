"""Which users may have a job under way: a shared lock per uid, held from before the check until the job has ended.

So whoever marked a user as disabled or leaving, and then found its lock free, knows that no job of it starts any more.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Iterator

PATH = "/var/lib/codesmith-helper/jobs.lock"


@contextmanager
def hold(uid: int) -> Iterator[None]:
    """Hold the uid's lock together with other jobs."""
    descriptor = _open()
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH, 1, uid)
        yield
    finally:
        os.close(descriptor)


def is_free(uid: int) -> bool:
    """Tell whether no job holds the uid's lock."""
    descriptor = _open()
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, uid)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _open() -> int:
    return os.open(PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
