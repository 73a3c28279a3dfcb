"""Unix accounts: made with useradd, removed with userdel, read back after each. /etc/passwd says what exists."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Collection, Dict, List, Optional, Set

from agent.helper.accounts import databases
from agent.helper.ledger.lock import held
from agent.shared import uids
from agent.shared.database import sync_folder
from agent.shared.errors import CommandFailed, LimitReached, NotManaged
from agent.shared.names import home_of, login_of
from agent.shared.run import run

COMMENT = "CodeSmith user"
SHELLS = ("/bin/bash", "/bin/sh")
GSHADOW = "/etc/gshadow"
DATABASES = ("/etc/passwd", "/etc/shadow", "/etc/group", GSHADOW)
NOLOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
EXPIRED = "1"  # 1970-01-02: 0 would mean "never" to some tools
NO_PASSWORD, LOCKED = "*", "!*"
# The node's own policy, overruled: /etc/login.defs, and /etc/default/useradd, whose GROUPS=, INACTIVE= and EXPIRE=
# count unless something else is said. MAIL_DIR keeps CREATE_MAIL_SPOOL=yes from making a mailbox.
NO_AGEING = ("PASS_MAX_DAYS=-1", "PASS_MIN_DAYS=-1", "PASS_WARN_AGE=-1", "MAIL_DIR=/nonexistent")
NO_EXPIRY = ("--inactive", "-1", "--expiredate", "")
NO_GROUPS = ("--groups", "")


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


def check_sole(name: str, uid: int) -> None:
    """Raise NotManaged when what ends or removes an account would reach somebody else's, made with its uid or group."""
    login = login_of(name)
    other = next((one.pw_name for one in pwd.getpwall() if one.pw_uid == uid and one.pw_name != login), None)
    if other is not None:
        raise NotManaged(f"uid {uid} of {login!r} is that of the Unix account {other!r} too; they are left alone")
    try:
        group = grp.getgrnam(login)
    except KeyError:
        return
    if group.gr_gid != uid:
        raise NotManaged(f"the Unix group {login!r} is not the one that CodeSmith made; it is left alone")


def first_free(uid: int, within: uids.Range) -> int:
    """Return the first number from `uid` on that is nobody's uid or gid, a subordinate one neither."""
    subordinates = uids.subordinates()
    while within.has(uid):
        others = [one.range.last for one in subordinates if one.range.has(uid)]
        if not others and not _is_taken(uid):
            return uid
        uid = max(others, default=uid) + 1
    raise LimitReached(f"all uids from {within} have been given out, or are somebody's", hint="inv node.prepare")


def shell() -> str:
    """Return the login shell of new accounts."""
    return next((path for path in SHELLS if os.access(path, os.X_OK)), SHELLS[-1])


def is_whole(name: str) -> bool:
    """Tell whether the account is in every database: a useradd that was killed leaves it in some."""
    return traces(login_of(name)) == {path for path in DATABASES if os.path.exists(path)}


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
    if traces(login):
        # Only shadow lines are left, which no tool removes by itself: complete the account, then remove it whole.
        _add(login, home_of(name), uid)
        _delete(login)
        _remove_own_group(login, uid)
    if traces(login):
        raise CommandFailed(f"userdel left the account {login!r}", command="userdel", exit_code=0, stderr="")


def close_access(name: str) -> None:
    """Expire and lock the account and take its shell: sshd, cron, at and su ask PAM, which refuses an expired one.

    A locked password alone leaves key logins open, and nologin alone leaves forwarding (ssh -N). It needs only the
    databases of databases.ACCESS: no group that cannot be changed keeps an account open.
    """
    no_shell = next((path for path in NOLOGIN if os.access(path, os.X_OK)), NOLOGIN[-1])
    expired = ("--inactive", "-1", "--expiredate", EXPIRED)
    _run_tool("usermod", *expired, "--password", LOCKED, "--shell", no_shell, "--", login_of(name))


def is_expired(name: str) -> bool:
    """Tell whether an account is closed, as `close_access` leaves it."""
    login = login_of(name)
    with open("/etc/shadow", encoding="utf-8", errors="surrogateescape") as file:
        fields = next((line.rstrip("\n").split(":") for line in file if line.startswith(f"{login}:")), [])
    return fields[7:8] == [EXPIRED]


def open_access(name: str) -> None:
    """Let the account in as a new one: no expiry, no password, our shell."""
    _run_tool("usermod", *NO_EXPIRY, "--password", NO_PASSWORD, "--shell", shell(), "--", login_of(name))


def settle(name: str, *, is_disabled: bool, administered: Dict[str, List[str]]) -> None:
    """Undo what ages an account, take others out of its group and itself out of theirs; then open it, or close it.

    `administered` names the groups of others that it administers, and who goes on to do so.
    """
    login = login_of(name)
    ageing = ("--mindays", "-1", "--maxdays", "-1", "--warndays", "-1", "--inactive", "-1", "--lastday", "-1")
    _run_tool("chage", *ageing, "--", login)
    _run_tool("usermod", *NO_GROUPS, "--", login)
    # Only /etc/gshadow knows of administrators; without it gpasswd refuses to hear of any.
    administrators = ("--administrators", "") if os.path.exists(GSHADOW) else ()
    _run_tool("gpasswd", "--members", "", *administrators, login)
    for group, others in administered.items():
        _run_tool("gpasswd", "--administrators", ",".join(others), group)
    (close_access if is_disabled else open_access)(name)


def _run_tool(program: str, *arguments: str, allowed: Collection[int] = (0,)) -> None:
    """Run what changes the account databases: never killed half-way, and no other change begins before it ends.

    The tools write their files to disk, but not that these have taken the place of the old ones.
    """
    run(program, *arguments, allowed=allowed, timeout_s=None, keeps=held())
    sync_folder(databases.FOLDER)


def _add(login: str, home: str, uid: int) -> None:
    """Make an account with a group of its own and no password ("*": keys still work).

    The ranges, for this one call, make useradd take gid = uid, and leave /etc/subuid alone: that is for uids inside
    UID_MIN to UID_MAX. (SUB_UID_COUNT=0, the documented way, fails on Debian 11.)
    """
    ranges = (f"UID_MIN={uid + 1}", f"UID_MAX={uid + 1}", f"GID_MIN={uid}", f"GID_MAX={uid}")
    keys = [part for pair in (*ranges, *NO_AGEING) for part in ("--key", pair)]
    _run_tool(
        "useradd", *keys, *NO_GROUPS, *NO_EXPIRY, "--uid", str(uid), "--user-group", "--no-create-home",
        "--no-log-init", "--password", NO_PASSWORD, "--home-dir", home, "--shell", shell(), "--comment", COMMENT,
        "--", login,
    )  # fmt: skip


def _delete(login: str) -> None:
    # 12: the home could not be removed (we do that); never -r or -f.
    _run_tool("userdel", "--", login, allowed=(0, 12))


def traces(login: str) -> Set[str]:
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
    _run_tool("groupdel", "--", login)


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
