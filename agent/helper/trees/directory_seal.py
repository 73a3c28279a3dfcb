"""The seal on a user's directory: root's and closed to all, so with no uid a path leads into it. Exact to undo."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import Iterator, NamedTuple

from agent.helper.trees.trees import DIRECTORY, open_base
from agent.shared.errors import NotManaged
from agent.shared.ownership import is_sealed

MODE = 0o700


class Rights(NamedTuple):
    """What a seal takes from a directory beside its owner."""

    mode: int
    gid: int


def seal(parent: str, name: str, uid: int) -> None:
    """Give PARENT/NAME to root and close it. Its group has no rights and tells whose it was: only root can set it."""
    with open_ours(parent, name, uid) as directory:
        os.fchmod(directory, 0)
        os.fchown(directory, 0, uid)
        os.fchmod(directory, 0)  # again: until now its owner could open it
        os.fsync(directory)


def unseal(parent: str, name: str, uid: int, rights: Rights) -> None:
    """Give it back, as it was."""
    with open_ours(parent, name, uid) as directory:
        os.fchown(directory, uid, rights.gid)
        # In its group: who is not, and lacks CAP_FSETID, cannot set the set-gid bit.
        before = os.getegid()
        os.setegid(rights.gid)
        try:
            os.fchmod(directory, rights.mode)
        finally:
            os.setegid(before)
        os.fsync(directory)


def check_ours(parent: str, name: str, uid: int) -> None:
    """Raise NotManaged for a directory that is not the one CodeSmith made for `uid`, sealed or not."""
    with open_ours(parent, name, uid):
        pass


def rights_of(parent: str, name: str, uid: int) -> Rights:
    """Return mode and group of what is not sealed; those that we give when it is."""
    with open_ours(parent, name, uid) as directory:
        found = os.fstat(directory)
        return Rights(stat.S_IMODE(found.st_mode), found.st_gid) if found.st_uid == uid else Rights(MODE, uid)


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
