"""What the system says when it has no room: a full disk and a used-up quota, told apart, with what to do."""

from __future__ import annotations

import errno
import os
from typing import Optional

from agent.shared.errors import LimitReached

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# What programs print for the two.
NO_ROOM_TEXTS = tuple(os.strerror(number) for number in NO_ROOM)
PROBE_BYTES = 64 << 10


def no_room(error: OSError, folder: str, problem: str = "") -> LimitReached:
    """Return the refusal for an error of NO_ROOM; `folder` is on the disk that it is about."""
    what = "a disk quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    where = error.filename if isinstance(error.filename, str) else folder
    return LimitReached(f"{problem or what} ({where}: {error.strerror})", hint=hint(error, folder))


def hint(error: OSError, folder: str) -> str:
    """Return what shows why there is no room."""
    if error.errno == errno.EDQUOT:
        return f"on the node: repquota -a; quota -v; findmnt -o TARGET,OPTIONS --target {folder}"
    return f"df {folder}; df -i {folder}"


def probe(folder: str) -> Optional[OSError]:
    """Return why a folder takes nothing more; None when it does. SQLite says "disk I/O error" for a quota."""
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
