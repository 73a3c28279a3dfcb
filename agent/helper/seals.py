"""The seal on a user's directory: root's and closed to all, so with no uid a path leads into it. Exact to undo."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import Iterator

from agent.claims import is_sealed
from agent.errors import NotManaged
from agent.helper.trees import DIRECTORY, open_base

MODE = 0o700


def seal(parent: str, name: str, uid: int) -> None:
    """Give PARENT/NAME to root and close it."""
    with open_ours(parent, name, uid) as directory:
        os.fchmod(directory, 0)
        os.fchown(directory, 0, 0)
        os.fchmod(directory, 0)  # again: until now its owner could open it
        os.fsync(directory)


def unseal(parent: str, name: str, uid: int, mode: int) -> None:
    """Give it back, with the mode it had."""
    with open_ours(parent, name, uid) as directory:
        os.fchown(directory, uid, uid)
        os.fchmod(directory, mode)
        os.fsync(directory)


def check_ours(parent: str, name: str, uid: int) -> None:
    """Raise NotManaged for a directory that is not the one CodeSmith made for `uid`, sealed or not."""
    with open_ours(parent, name, uid):
        pass


def mode_of(parent: str, name: str, uid: int) -> int:
    """Return the mode of what is not sealed; ours when it is."""
    with open_ours(parent, name, uid) as directory:
        found = os.fstat(directory)
        return stat.S_IMODE(found.st_mode) if found.st_uid == uid else MODE


@contextmanager
def open_ours(parent: str, name: str, uid: int) -> Iterator[int]:
    """Hold PARENT/NAME; NotManaged when it is not the one that CodeSmith made for `uid`, sealed or not."""
    with open_base(parent) as base:
        try:
            directory = os.open(name, DIRECTORY, dir_fd=base)
        except OSError as error:
            raise NotManaged(f"{parent}/{name}: {error.strerror}") from None
    try:
        found = os.fstat(directory)
        if found.st_uid != uid and not is_sealed(found):
            raise NotManaged(f"{parent}/{name} does not belong to uid {uid}; it is left alone")
        yield directory
    finally:
        os.close(directory)
