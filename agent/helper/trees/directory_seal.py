"""Seal a user's directory: give it to root with mode 0, so that no user can enter it by path. Exact to undo."""

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
    """What a seal changes on a directory, besides its owner."""

    mode: int
    gid: int


def seal(parent: str, name: str, uid: int) -> None:
    """Give PARENT/NAME to root with mode 0. Its group, which only root can set, records whose it was."""
    with open_ours(parent, name, uid) as directory:
        os.fchmod(directory, 0)
        os.fchown(directory, 0, uid)
        os.fchmod(directory, 0)  # again: until now its owner could open it
        os.fsync(directory)


def unseal(parent: str, name: str, uid: int, rights: Rights) -> None:
    """Give it back to `uid` with the rights that it had."""
    with open_ours(parent, name, uid) as directory:
        os.fchown(directory, uid, rights.gid)
        # As a member of its group: the set-gid bit needs that, or CAP_FSETID, which the helper lacks.
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
    """Return mode and group of a directory that is not sealed; those of a new one if it is."""
    with open_ours(parent, name, uid) as directory:
        status = os.fstat(directory)
        return Rights(stat.S_IMODE(status.st_mode), status.st_gid) if status.st_uid == uid else Rights(MODE, uid)


@contextmanager
def open_ours(parent: str, name: str, uid: int) -> Iterator[int]:
    """Hold PARENT/NAME, sealed or not; NotManaged when it is not the one that CodeSmith made for `uid`."""
    with open_base(parent) as base:
        try:
            directory = os.open(name, DIRECTORY, dir_fd=base)
        except OSError as error:
            raise NotManaged(f"{parent}/{name}: {error.strerror}") from None
    try:
        status = os.fstat(directory)
        if status.st_uid != uid and not is_sealed(status):
            raise NotManaged(f"{parent}/{name} does not belong to uid {uid}; it is left alone")
        yield directory
    finally:
        os.close(directory)
