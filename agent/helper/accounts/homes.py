"""authorized_keys of a user, written with the user's rights."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import List

from agent.helper.accounts import as_user
from agent.helper.trees import directory_seal
from agent.helper.trees.trees import DIRECTORY, NEW_FILE
from agent.shared.names import HOMES, home_of, login_of

KEYS_FOLDER, KEYS_FILE = ".ssh", "authorized_keys"
ROUNDS = 20
MODE = 0o700


def keys_text(keys: List[str]) -> bytes:
    """Return the contents of an authorized_keys file."""
    return "".join(f"{line}\n" for line in keys).encode()


def write_keys(name: str, uid: int, keys: List[str]) -> None:
    """Write authorized_keys as the user, completely or not at all, in a real .ssh directory.

    A link, FIFO or file that the user put in the place of .ssh is replaced; the target of a link is left alone.
    """
    with directory_seal.open_ours(HOMES, login_of(name), uid) as home:
        try:
            as_user.act(uid, lambda: _write(home, keys_text(keys)))
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{home_of(name)}/{KEYS_FOLDER}/{KEYS_FILE}") from None


# The rest runs with the user's rights: it can follow or replace only what the user could.


def _write(home: int, data: bytes) -> None:
    if os.fstat(home).st_mode & MODE != MODE:
        os.fchmod(home, stat.S_IMODE(os.fstat(home).st_mode) | MODE)
    folder = _real_folder(home)
    for name in os.listdir(folder):
        if re.fullmatch(rf"\.{KEYS_FILE}\.[0-9a-f]{{16}}", name):
            os.unlink(name, dir_fd=folder)  # left by an interrupted run
    temporary = f".{KEYS_FILE}.{os.urandom(8).hex()}"
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
    """Open .ssh; make it if it is missing, and replace it if it is not a directory."""
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
            pass  # the user removed it again
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
        pass  # it changed meanwhile; the next round looks again


def _replace(folder: int, temporary: str) -> None:
    try:
        os.rename(temporary, KEYS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except (IsADirectoryError, NotADirectoryError):
        os.rename(KEYS_FILE, f"{KEYS_FILE}.{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=folder)
        os.rename(temporary, KEYS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
