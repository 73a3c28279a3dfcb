"""Unix accounts: made with useradd, removed with userdel, read back after each. /etc/passwd says what exists."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import time
from typing import Optional, Set

from agent.errors import CommandFailed, InUse, NotManaged
from agent.names import home_of, login_of
from agent.run import run

COMMENT = "CodeSmith user"
SHELLS = ("/bin/bash", "/bin/sh")
DATABASES = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow")
KILL_ROUNDS = 100
PAUSE_S = 0.02


def find(name: str) -> Optional[pwd.struct_passwd]:
    """Return the account of a user as the system has it."""
    try:
        return pwd.getpwnam(login_of(name))
    except KeyError:
        return None


def check_free(name: str) -> None:
    """Raise NotManaged when an account or group of this login exists."""
    login = login_of(name)
    if find(name) is not None:
        raise NotManaged(f"the Unix account {login!r} exists and was not made by CodeSmith")
    try:
        grp.getgrnam(login)
    except KeyError:
        return
    raise NotManaged(f"the Unix group {login!r} exists and was not made by CodeSmith")


def check_ours(name: str, uid: int) -> Optional[pwd.struct_passwd]:
    """Return the account if name, uid and record agree, None if it is gone; NotManaged when it is someone else's."""
    found = find(name)
    if found is None and _is_account(uid):
        raise NotManaged(f"uid {uid} of user {name!r} was given to another Unix account; it is left alone")
    if found is not None and (found.pw_uid, found.pw_gid, found.pw_dir) != (uid, uid, home_of(name)):
        raise NotManaged(f"the Unix account {login_of(name)!r} is not the one that CodeSmith made; it is left alone")
    return found


def first_free(uid: int) -> int:
    """Return the first number from `uid` on that is neither a uid nor a gid."""
    while _is_taken(uid):
        uid += 1
    return uid


def shell() -> str:
    """Return the login shell of new accounts."""
    return next((path for path in SHELLS if os.access(path, os.X_OK)), SHELLS[-1])


def is_whole(name: str) -> bool:
    """Tell whether the account is in every database: a useradd that was killed leaves it in some."""
    return _traces(login_of(name)) == {path for path in DATABASES if os.path.exists(path)}


def ensure(name: str, uid: int) -> None:
    """Make the account, or make it anew if an interrupted run left a part of it."""
    if check_ours(name, uid) is not None and is_whole(name):
        return
    remove(name, uid)
    _add(login_of(name), home_of(name), uid)
    if check_ours(name, uid) is None or not is_whole(name):
        raise CommandFailed(
            f"useradd made no whole account {login_of(name)!r}", command="useradd", exit_code=0, stderr=""
        )


def remove(name: str, uid: int) -> None:
    """Remove account and group, and what an interrupted run left of them. Processes must be gone: userdel refuses."""
    login = login_of(name)
    if check_ours(name, uid) is not None:
        _delete(login)
    _remove_own_group(login, uid)
    if _traces(login):
        # Only shadow lines are left, which no tool removes by itself: complete the account, then remove it whole.
        _add(login, home_of(name), uid)
        _delete(login)
        _remove_own_group(login, uid)
    if _traces(login):
        raise CommandFailed(f"userdel left the account {login!r}", command="userdel", exit_code=0, stderr="")


def kill_all(uid: int) -> None:
    """End every process of a uid; InUse when some survive.

    kill(-1) as the user reaches all of them at once; picking them one by one loses to a fork bomb.
    """
    for _ in range(KILL_ROUNDS):
        if not has_processes(uid):
            return
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        time.sleep(PAUSE_S)  # the kernel reaps; there is nothing to wait on for processes that are not our children
    raise InUse(f"processes of uid {uid} do not end", hint="try again")


def has_processes(uid: int) -> bool:
    """Tell whether any process runs with this uid, real, effective or saved.

    A zombie does not count, but one of more than one thread does: its first thread ended, the others work on.
    """
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
        except OSError:
            continue
        state, threads = fields.get("State", "").strip(), fields.get("Threads", "").strip()
        is_dead = state[:1] in ("Z", "X") and threads in ("", "0", "1")
        if str(uid) in fields.get("Uid", "").split() and not is_dead:
            return True
    return False


def _add(login: str, home: str, uid: int) -> None:
    """Make an account with a group of its own and no password ("*": keys still work).

    The ranges, for this one call, make useradd take gid = uid, and leave /etc/subuid alone: that is for uids inside
    UID_MIN to UID_MAX. (SUB_UID_COUNT=0, the documented way, fails on Debian 11.)
    """
    ranges = (f"UID_MIN={uid + 1}", f"UID_MAX={uid + 1}", f"GID_MIN={uid}", f"GID_MAX={uid}")
    keys = [part for pair in ranges for part in ("--key", pair)]
    run(
        "useradd", *keys, "--uid", str(uid), "--user-group", "--no-create-home", "--no-log-init", "--password", "*",
        "--home-dir", home, "--shell", shell(), "--comment", COMMENT, "--", login, timeout_s=None,
    )  # fmt: skip


def _delete(login: str) -> None:
    # 12: the home could not be removed (we do that); never -r or -f.
    run("userdel", "--", login, allowed=(0, 12), timeout_s=None)


def _traces(login: str) -> Set[str]:
    """Return the account databases that have a line for this login."""
    found = set()
    for path in DATABASES:
        try:
            with open(path, "rb") as file:
                if any(line.startswith(login.encode() + b":") for line in file):
                    found.add(path)
        except FileNotFoundError:
            pass
    return found


def _remove_own_group(login: str, uid: int) -> None:
    """Remove the group of an account that was made or removed half-way; another one's group is left alone."""
    try:
        found = grp.getgrnam(login)
    except KeyError:
        return
    if found.gr_gid != uid:
        raise NotManaged(f"the Unix group {login!r} is not the one that CodeSmith made; it is left alone")
    run("groupdel", "--", login, timeout_s=None)


def _is_taken(number: int) -> bool:
    return _is_account(number) or _is_group(number)


def _is_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _is_group(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True
