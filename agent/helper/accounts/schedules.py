"""What starts programs of a user without a login: crontab, at jobs, and a lingering user manager.

A disabled user's files are parked: renamed inside their own directory, so that restoring them is exact. cron and
systemd skip names that begin with a dot; atd only takes a letter and hexadecimal digits.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import Iterator, List, Optional, Tuple

from agent.helper.trees import mounts
from agent.helper.trees.trees import DIRECTORY, open_base
from agent.shared.names import login_of
from agent.shared.run import run

CRON = ("/var/spool/cron", "crontabs")
AT = ("/var/spool/cron", "atjobs")
AT_OUTPUT = ("/var/spool/cron", "atspool")
LINGER = ("/var/lib/systemd", "linger")
PARKED = ".parked-"
MINUTE_S = 60


def park(name: str, uid: int) -> None:
    """Park crontab, at jobs and linger. A file that is parked already is kept, and a newer one removed."""
    login = login_of(name)
    for place in (CRON, LINGER):
        with _open(place) as folder:
            if folder is not None and login in os.listdir(folder):
                _park(folder, login, f"{PARKED}{login}")
                os.fsync(folder)
    with _open(AT) as folder:
        if folder is not None:
            for job in _owned(folder, uid):
                if not job.startswith(PARKED):
                    _park(folder, job, f"{PARKED}{login}-{job}")
            os.fsync(folder)


def refuse_immutable(name: str, uid: int) -> None:
    """Raise CommandFailed when a crontab, at job or spool directory of the user is immutable or read-only."""
    for place in (CRON, AT, LINGER):
        with _open(place) as folder:
            if folder is None:
                continue
            own = [one for one in os.listdir(folder) if one in (login_of(name), f"{PARKED}{login_of(name)}")]
            files = [*own, *(_owned(folder, uid) if place == AT else [])]
            if files:
                mounts.refuse_immutable_inode(folder, "/".join(place))
            for one in files:
                with suppress(FileNotFoundError):  # an at job that ran meanwhile
                    _refuse_immutable_file(folder, one, "/".join((*place, one)))


def _refuse_immutable_file(folder: int, name: str, path: str) -> None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return  # a link cannot be immutable
        raise
    try:
        mounts.refuse_immutable_inode(file, path)
    finally:
        os.close(file)


def restore(name: str, uid: int) -> None:
    """Restore crontab and at jobs; drop an at job whose time has passed."""
    login = login_of(name)
    with _open(CRON) as folder:
        _unpark(folder, f"{PARKED}{login}", login)
    prefix, has_jobs = f"{PARKED}{login}-", False
    with _open(AT) as folder:
        for parked in _owned(folder, uid):
            if not parked.startswith(prefix):
                continue
            job = parked[len(prefix) :]
            if _is_past(job):
                os.unlink(parked, dir_fd=folder)
            else:
                os.rename(parked, job, src_dir_fd=folder, dst_dir_fd=folder)
                has_jobs = True
        if folder is not None and has_jobs:
            os.fsync(folder)
            _wake_atd()


def _wake_atd() -> None:
    """Make atd read its jobs, as at(1) does: it may sleep for an hour otherwise, past the time of a job."""
    shown = run("systemctl", "show", "--property=MainPID", "--value", "--", "atd.service", allowed=range(256)).stdout
    try:
        if int(shown or 0) > 0:
            os.kill(int(shown), signal.SIGHUP)
    except (ValueError, ProcessLookupError):
        pass  # no such service, or it has just ended: it reads them when it starts


def restore_linger(name: str, uid: int) -> None:
    """Restore lingering if the user had it, and start the user manager."""
    login = login_of(name)
    with _open(LINGER) as folder:
        was_there = _unpark(folder, f"{PARKED}{login}", login)
    if was_there:
        # The file takes effect at the next boot. For now tell logind, which may fail in containers, and start the
        # manager.
        run("loginctl", "enable-linger", login, allowed=range(256))
        run("systemctl", "start", "--no-block", "--", f"user@{uid}.service", allowed=range(256))


def remove(name: str, uid: int) -> List[str]:
    """Remove crontab, at jobs and linger, parked or not; return the paths that stay."""
    login = login_of(name)
    left: List[str] = []
    for place in (CRON, LINGER, AT, AT_OUTPUT):
        with _open(place) as folder:
            if folder is not None:
                # By owner too: a killed crontab(1) leaves a file with another name.
                files = {login, f"{PARKED}{login}"} & set(os.listdir(folder)) | set(_owned(folder, uid))
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


def _park(folder: int, name: str, parked: str) -> None:
    """Park a file; remove it if one is parked already: then it was written after the user was disabled."""
    try:
        os.stat(parked, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, parked, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _unpark(folder: Optional[int], parked: str, name: str) -> bool:
    if folder is None:
        return False
    try:
        os.rename(parked, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return False
    os.fsync(folder)
    return True


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


def _is_past(job: str) -> bool:
    """Tell whether an at job's time has passed: its name ends with the minutes since 1970, in hexadecimal."""
    try:
        return int(job[-8:], 16) * MINUTE_S < time.time()
    except ValueError:
        return True
