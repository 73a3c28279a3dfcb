"""What starts programs for a user by itself: crontab, at jobs, and the user manager that lingers.

Put away by renaming inside its own directory, so that putting it back is exact. cron and systemd skip names that begin
with a dot; atd wants a letter and hexadecimal digits.
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
    """Put away crontab, at jobs and linger. What is put away already stays the truth."""
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


def refuse_fixed(name: str, uid: int) -> None:
    """Refuse schedules that cannot be put away or back: an immutable crontab, at job or spool directory."""
    for place in (CRON, AT, LINGER):
        with _open(place) as folder:
            if folder is None:
                continue
            own = [one for one in os.listdir(folder) if one in (login_of(name), f"{PARKED}{login_of(name)}")]
            found = [*own, *(_owned(folder, uid) if place == AT else [])]
            if found:
                mounts.refuse_fixed_inode(folder, "/".join(place))
            for one in found:
                with suppress(FileNotFoundError):  # it was done meanwhile
                    _refuse_fixed_file(folder, one, "/".join((*place, one)))


def _refuse_fixed_file(folder: int, name: str, path: str) -> None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return  # a link has no such marks
        raise
    try:
        mounts.refuse_fixed_inode(file, path)
    finally:
        os.close(file)


def restore(name: str, uid: int) -> None:
    """Put crontab and at jobs back; an at job whose time has passed meanwhile is dropped."""
    login = login_of(name)
    with _open(CRON) as folder:
        _back(folder, f"{PARKED}{login}", login)
    prefix, has_jobs = f"{PARKED}{login}-", False
    with _open(AT) as folder:
        for parked in _owned(folder, uid):
            if not parked.startswith(prefix):
                continue
            job = parked[len(prefix) :]
            if _is_over(job):
                os.unlink(parked, dir_fd=folder)
            else:
                os.rename(parked, job, src_dir_fd=folder, dst_dir_fd=folder)
                has_jobs = True
        if folder is not None and has_jobs:
            os.fsync(folder)
            _wake_atd()


def _wake_atd() -> None:
    """Tell atd to look for jobs, as at(1) does: by itself it may sleep for an hour, past the time of a job."""
    shown = run("systemctl", "show", "--property=MainPID", "--value", "--", "atd.service", allowed=range(256)).stdout
    try:
        if int(shown or 0) > 0:
            os.kill(int(shown), signal.SIGHUP)
    except (ValueError, ProcessLookupError):
        pass  # no such service, or it has just ended: it looks when it starts


def restore_linger(name: str, uid: int) -> None:
    """Let the user manager linger again if it did, and start it."""
    login = login_of(name)
    with _open(LINGER) as folder:
        was_there = _back(folder, f"{PARKED}{login}", login)
    if was_there:
        # The file counts from the next boot on. Now: logind should know (it may be unable to, in containers), and
        # the manager runs.
        run("loginctl", "enable-linger", login, allowed=range(256))
        run("systemctl", "start", "--no-block", "--", f"user@{uid}.service", allowed=range(256))


def remove(name: str, uid: int) -> List[str]:
    """Remove crontab, at jobs and linger, put away or not; return the paths that stay."""
    login = login_of(name)
    left: List[str] = []
    for place in (CRON, LINGER, AT, AT_OUTPUT):
        with _open(place) as folder:
            if folder is not None:
                # By owner too: a crontab(1) that its user kills leaves a file of another name.
                found = {login, f"{PARKED}{login}"} & set(os.listdir(folder)) | set(_owned(folder, uid))
                left += [f"{'/'.join(place)}/{one}" for one in sorted(found) if not _unlink(folder, one)]
    return left


@contextmanager
def _open(place: Tuple[str, str]) -> Iterator[Optional[int]]:
    """Hold a spool directory; None when this node has no such thing. Its parent can be written by root alone."""
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
    found = []
    for name in [] if folder is None else os.listdir(folder):
        try:
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid == uid:
                found.append(name)
        except FileNotFoundError:
            pass
    return found


def _park(folder: int, name: str, parked: str) -> None:
    """Rename, unless one is put away already: then this one came after the user was closed out, and goes."""
    try:
        os.stat(parked, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, parked, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _back(folder: Optional[int], parked: str, name: str) -> bool:
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


def _is_over(job: str) -> bool:
    """Tell whether an at job's time has passed: its name ends with the minute since 1970, in hexadecimal."""
    try:
        return int(job[-8:], 16) * MINUTE_S < time.time()
    except ValueError:
        return True
