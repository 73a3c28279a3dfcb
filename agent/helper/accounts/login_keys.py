"""The public keys by which users come in through the node's sshd: one file of root's for each login."""

from __future__ import annotations

import os
import stat
from typing import Any, List

from agent.helper.accounts import login_marks
from agent.helper.trees.trees import open_base
from agent.shared import sshkeys
from agent.shared.errors import InvalidParams
from agent.shared.names import BASE, KEYS, login_of

KEYS_MAX, LINE_MAX = 64, 8192


def parse(keys: Any) -> List[str]:
    """Return the keys in canonical form; InvalidParams when one is none, has options or is too long, or for too many.

    The front end has checked them: the helper takes nobody's word for it.
    """
    if not isinstance(keys, list) or len(keys) > KEYS_MAX or not all(isinstance(one, str) for one in keys):
        raise InvalidParams.of("keys", f"must be a list of at most {KEYS_MAX} lines")
    if any(len(one) > LINE_MAX for one in keys):
        raise InvalidParams.of("keys", f"a line has at most {LINE_MAX} characters")
    return sshkeys.parse_keys(keys)


def write(name: str, keys: List[str]) -> None:
    """Replace the keys of a login in one step; without keys there is no file."""
    if not keys:
        remove(name)
        return
    if not os.path.isdir(KEYS):  # prepare makes it; somebody has removed it
        with open_base(BASE) as base:
            os.mkdir(os.path.basename(KEYS), 0o711, dir_fd=base)
            os.chmod(os.path.basename(KEYS), 0o711, dir_fd=base)  # noqa: S103 (sshd reads it as the login)
    login_marks.put(KEYS, login_of(name), "".join(f"{key}\n" for key in keys).encode())


def exist(name: str) -> bool:
    """Tell whether a login has a key; a link or a directory in the place of the file is none."""
    try:
        status = os.lstat(f"{KEYS}/{login_of(name)}")
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def remove(name: str) -> None:
    """Remove the keys of a login."""
    login_marks.take(KEYS, login_of(name))
