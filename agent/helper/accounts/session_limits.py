"""Bounds for the sessions of one login at the node's sshd, all of them together.

They are outside of every workspace: logind puts them into `user-UID.slice`, and nothing else is in there, since no
user manager starts. systemd knows no file for a range of uids, so there is one for each login that is open.
"""

from __future__ import annotations

import errno
import os
from typing import List

from agent.helper.accounts import login_marks
from agent.helper.trees.trees import open_base

UNITS = "/etc/systemd/system"
FILE = "40-codesmith.conf"
# A session is three processes (two of sshd, and `enter`) and about 6 MB: so 64 of them, and memory for what they carry.
TASKS, MEMORY = 192, "512M"
TEXT = f"""\
# Written by CodeSmith for one of its logins, removed with it; changes are undone.
# Sessions at sshd only carry bytes into workspaces, which have limits of their own.
[Slice]
TasksMax={TASKS}
MemoryMax={MEMORY}
MemorySwapMax=0
CPUWeight=50
"""


def are_there(uid: int) -> bool:
    """Tell whether the sessions of a uid have these bounds; more settings for the slice are the node's own."""
    try:
        with open(_path(uid), encoding="utf-8") as file:
            return file.read() == TEXT
    except (OSError, ValueError):
        return False


def ensure(uid: int) -> None:
    """Bound the sessions of a uid. The second call changes nothing.

    It comes before the account is opened, so no session is without. systemd reads the file when the first one begins;
    it is not told to read all its files anew, which takes seconds on a busy node and does nothing to a slice (257).
    """
    if are_there(uid):
        return
    with open_base(UNITS) as base:
        try:
            os.mkdir(_folder(uid), 0o755, dir_fd=base)
        except FileExistsError:
            pass
        else:
            os.chmod(_folder(uid), 0o755, dir_fd=base)  # noqa: S103  the helper's umask has taken the others' bits
            os.fsync(base)
    login_marks.put(f"{UNITS}/{_folder(uid)}", FILE, TEXT.encode())


def remove(uid: int) -> List[str]:
    """Remove the bounds of a uid. What an administrator has put beside them stays: return its directory then."""
    folder = f"{UNITS}/{_folder(uid)}"
    login_marks.take(folder, FILE)
    with open_base(UNITS) as base:
        try:
            os.rmdir(_folder(uid), dir_fd=base)
            os.fsync(base)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return [folder]
    return []


def _folder(uid: int) -> str:
    return f"user-{uid}.slice.d"


def _path(uid: int) -> str:
    return f"{UNITS}/{_folder(uid)}/{FILE}"
