"""What would start programs of a login without CodeSmith: crontab, at jobs, and a lingering user manager.

No login can write any of them: nothing of it runs outside of a runtime. Only root can, and then it is drift of the
account. PAM refuses all of them to a closed account; a deletion removes what is there all the same.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Tuple, Union

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


def owners() -> Dict[Union[str, int], List[str]]:
    """Return what there is, by login (crontab, linger) or by uid (at jobs); nothing that only root can look at."""
    found: Dict[Union[str, int], List[str]] = {}
    for place, what in ((CRON, "a crontab"), (LINGER, "a lingering user manager")):
        for login in _names("/".join(place)):
            found.setdefault(login, []).append(what)
    for name in _names("/".join(AT)):
        try:
            uid = os.lstat(f"{'/'.join(AT)}/{name}").st_uid
        except OSError:
            continue
        if "an at job" not in found.setdefault(uid, []):
            found[uid].append("an at job")
    return found


def _names(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


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
