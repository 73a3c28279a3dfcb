"""Errors of the system without room: a full disk or a used-up quota, each with its hint."""

from __future__ import annotations

import errno
import os
from typing import Optional

from agent.shared.errors import LimitReached

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# The messages that programs print for the two.
NO_ROOM_TEXTS = tuple(os.strerror(number) for number in NO_ROOM)
PROBE_BYTES = 64 << 10


def no_room(error: OSError, folder: str, problem: str = "") -> LimitReached:
    """Return the refusal for an error of NO_ROOM; `folder` is on the full disk."""
    what = "a disk quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    where = error.filename if isinstance(error.filename, str) else folder
    return LimitReached(f"{problem or what} ({where}: {error.strerror})", hint=hint(error, folder))


def hint(error: OSError, folder: str) -> str:
    """Return the command that shows why there is no room."""
    if error.errno == errno.EDQUOT:
        return f"on the node: repquota -a; quota -v; findmnt -o TARGET,OPTIONS --target {folder}"
    return f"df {folder}; df -i {folder}"


def probe(folder: str) -> Optional[OSError]:
    """Return the error of NO_ROOM that a write in a folder gets; None without one. (SQLite hides a quota's error.)"""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error if error.errno in NO_ROOM else None
    try:
        os.posix_fallocate(descriptor, 0, PROBE_BYTES)
    except OSError as error:
        return error if error.errno in NO_ROOM else None
    finally:
        os.close(descriptor)
    return None
