"""Homes of users: their keys, written as the user; and the seal that keeps everybody out of a home."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import contextmanager
from typing import Iterator, List

from agent.errors import NotManaged
from agent.helper import as_user
from agent.helper.trees import DIRECTORY, NEW_FILE, open_base
from agent.names import HOMES, home_of, login_of

KEYS_FOLDER, KEYS_FILE = ".ssh", "authorized_keys"
ROUNDS = 20
MODE = 0o700


def keys_text(keys: List[str]) -> bytes:
    """Return an authorized_keys file."""
    return "".join(f"{line}\n" for line in keys).encode()


def write_keys(name: str, uid: int, keys: List[str]) -> None:
    """Write authorized_keys as the user, whole or not at all, inside a real .ssh directory.

    A link, FIFO or file that the user put in the place of .ssh is replaced; what a link leads to is left alone.
    """
    with _open_home(name, uid) as home:
        as_user.act(uid, lambda: _write(home, keys_text(keys)))


def seal(name: str, uid: int) -> None:
    """Give the home to root and close it: no key in it counts any more, however the user laid it out. Exact to undo."""
    with _open_home(name, uid, or_sealed=True) as home:
        os.fchmod(home, 0)
        os.fchown(home, 0, 0)
        os.fsync(home)


def unseal(name: str, uid: int, mode: int) -> None:
    """Give the home back, with the mode it had."""
    with _open_home(name, uid, or_sealed=True) as home:
        os.fchown(home, uid, uid)
        os.fchmod(home, mode)
        os.fsync(home)


def check_ours(name: str, uid: int) -> None:
    """Raise NotManaged for a home that is not the one CodeSmith made, sealed or not."""
    with _open_home(name, uid, or_sealed=True):
        pass


def mode_of(name: str, uid: int) -> int:
    """Return the mode of a home that is not sealed; ours when it is."""
    with _open_home(name, uid, or_sealed=True) as home:
        found = os.fstat(home)
        return stat.S_IMODE(found.st_mode) if found.st_uid == uid else MODE


@contextmanager
def _open_home(name: str, uid: int, *, or_sealed: bool = False) -> Iterator[int]:
    """Hold the home of a user that is ours."""
    with open_base(HOMES) as base:
        try:
            home = os.open(login_of(name), DIRECTORY, dir_fd=base)
        except OSError as error:
            raise NotManaged(f"{home_of(name)}: {error.strerror}") from None
    try:
        found = os.fstat(home)
        # Sealed is root's and closed to all: a directory that root put there is not.
        is_sealed = found.st_uid == 0 and stat.S_IMODE(found.st_mode) == 0
        if found.st_uid != uid and not (or_sealed and is_sealed):
            raise NotManaged(f"{home_of(name)} does not belong to {login_of(name)!r}; it is left alone")
        yield home
    finally:
        os.close(home)


# From here on with the rights of the user: what is followed or replaced is the user's own.


def _write(home: int, data: bytes) -> None:
    if os.fstat(home).st_mode & MODE != MODE:
        os.fchmod(home, stat.S_IMODE(os.fstat(home).st_mode) | MODE)
    folder = _real_folder(home)
    for name in os.listdir(folder):
        if re.fullmatch(rf"\.{KEYS_FILE}\.[0-9a-f]{{16}}", name):
            os.unlink(name, dir_fd=folder)  # of a run that was cut off
    temporary = f".{KEYS_FILE}.{secrets.token_hex(8)}"
    file = os.open(temporary, NEW_FILE, 0o600, dir_fd=folder)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
        _replace(folder, temporary)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _real_folder(home: int) -> int:
    """Return .ssh, opened; made if there is none, and anew if it is no directory."""
    for _ in range(ROUNDS):
        try:
            os.mkdir(KEYS_FOLDER, MODE, dir_fd=home)
        except FileExistsError:
            pass
        try:
            folder = os.open(KEYS_FOLDER, DIRECTORY, dir_fd=home)
        except PermissionError:
            os.chmod(KEYS_FOLDER, MODE, dir_fd=home)
        except FileNotFoundError:
            pass  # gone again: somebody plays with it
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            _unlink_quietly(home)
        else:
            os.fchmod(folder, MODE)
            return folder
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _unlink_quietly(home: int) -> None:
    try:
        os.unlink(KEYS_FOLDER, dir_fd=home)
    except (FileNotFoundError, IsADirectoryError):
        pass  # changed under our hands; the next round sees what it is


def _replace(folder: int, temporary: str) -> None:
    try:
        os.rename(temporary, KEYS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except (IsADirectoryError, NotADirectoryError):
        os.rename(KEYS_FILE, f"{KEYS_FILE}.{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=folder)
        os.rename(temporary, KEYS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
