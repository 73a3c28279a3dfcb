"""A file of root's for each login, by uid: it keeps a user manager from starting, and says who may come in.

`user@UID.service` does not start where the file is (a drop-in of prepare's). Its word is `user` for the login of an
active user, who comes in through the node's sshd, and `closed` for all others.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional

from agent.helper.trees.trees import open_base
from agent.shared.names import LOGINS

USER, CLOSED = "user", "closed"
SIZE_MAX = 16


def read(uid: int) -> Optional[str]:
    """Return the word for a uid; None without a file."""
    try:
        descriptor = os.open(f"{LOGINS}/{uid}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(SIZE_MAX).decode("ascii", "replace").strip()


def write(uid: int, word: str) -> None:
    """Write the word for a uid; nothing where prepare has not made the directory. The second call changes nothing."""
    if os.path.isdir(LOGINS) and read(uid) != word:
        put(LOGINS, str(uid), f"{word}\n".encode())


def remove(uid: int) -> None:
    """Remove the file of a uid."""
    take(LOGINS, str(uid))


def put(folder: str, name: str, data: bytes) -> None:
    """Write one of root's files into a directory of root's, in one step; no link is followed."""
    temporary = _unfinished(name)
    with open_base(folder) as base:
        try:
            os.unlink(temporary, dir_fd=base)
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=base)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, 0o644)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=base, dst_dir_fd=base)
        os.fsync(base)


def take(folder: str, name: str) -> None:
    """Remove a file from a directory of root's, and what an interrupted `put` has left; nothing where there is none."""
    if not os.path.isdir(folder):
        return
    with open_base(folder) as base:
        for one in (name, _unfinished(name)):
            with suppress(FileNotFoundError):
                os.unlink(one, dir_fd=base)
        os.fsync(base)


def _unfinished(name: str) -> str:
    return f".{name}.new"
