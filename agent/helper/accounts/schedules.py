"""What would start programs of a login without CodeSmith: crontab, at jobs, and a lingering user manager.

PAM refuses all of them to a closed account. A deletion removes what is there all the same.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, List, Optional, Tuple

from agent.helper.trees.trees import DIRECTORY, open_base
from agent.shared.names import login_of

CRON = ("/var/spool/cron", "crontabs")
AT = ("/var/spool/cron", "atjobs")
AT_OUTPUT = ("/var/spool/cron", "atspool")
LINGER = ("/var/lib/systemd", "linger")


def remove(name: str, uid: int) -> List[str]:
    """Remove crontab, at jobs and linger of a login; return the paths that stay."""
    login = login_of(name)
    left: List[str] = []
    for place in (CRON, LINGER, AT, AT_OUTPUT):
        with _open(place) as folder:
            if folder is not None:
                # By owner too: a killed crontab(1) leaves a file with another name.
                files = {login} & set(os.listdir(folder)) | set(_owned(folder, uid))
                left += [f"{'/'.join(place)}/{one}" for one in sorted(files) if not _unlink(folder, one)]
    return left


@contextmanager
def _open(place: Tuple[str, str]) -> Iterator[Optional[int]]:
    """Hold a spool directory; None when this node has none. Only root can write to its parent."""
    parent, name = place
    if not os.path.isdir(f"{parent}/{name}"):
        yield None
        return
    with open_base(parent) as base:
        folder = os.open(name, DIRECTORY, dir_fd=base)
    try:
        yield folder
    finally:
        os.close(folder)


def _owned(folder: Optional[int], uid: int) -> List[str]:
    """Return the names of a user's files in a spool directory."""
    names = []
    for name in [] if folder is None else os.listdir(folder):
        try:
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid == uid:
                names.append(name)
        except FileNotFoundError:
            pass
    return names


def _unlink(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    else:
        os.fsync(folder)
    return True
