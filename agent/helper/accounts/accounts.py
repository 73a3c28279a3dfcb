"""Unix accounts of logins: useradd and userdel make and remove them; the result is read back after each.

They are made closed: PAM and sshd let nobody in by them, and what runs as them is started by systemd. Those of active
users are then opened for the node's sshd, whose settings and whose shell lead into a workspace.
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import Collection, Dict, List, Optional, Set, Tuple

from agent.helper.accounts import databases
from agent.helper.ledger.lock import lock_descriptors
from agent.shared import uids
from agent.shared.database import sync_folder
from agent.shared.errors import CommandFailed, LimitReached, NotManaged
from agent.shared.names import ENTER, LOGINS_GROUP, NO_HOME, login_of
from agent.shared.run import run

COMMENT = "CodeSmith login"
SHELLS = ("/bin/bash", "/bin/sh")
GSHADOW = "/etc/gshadow"
DATABASES = ("/etc/passwd", "/etc/shadow", "/etc/group", GSHADOW)
NOLOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
EXPIRED = "1"  # 1970-01-02: 0 means "never" to some tools
LOCKED = "!*"
# These override the node's own policy: /etc/login.defs, and GROUPS=, INACTIVE= and EXPIRE= of /etc/default/useradd.
# MAIL_DIR keeps CREATE_MAIL_SPOOL=yes from making a mailbox.
NO_AGEING = ("PASS_MAX_DAYS=-1", "PASS_MIN_DAYS=-1", "PASS_WARN_AGE=-1", "MAIL_DIR=/nonexistent")
# A locked password alone still allows logins by key, and nologin alone still allows forwarding (ssh -N).
CLOSED = ("--inactive", "-1", "--expiredate", EXPIRED, "--password", LOCKED)
# A password that nothing matches; UsePAM no refuses a locked one by key too.
OPEN = ("--inactive", "-1", "--expiredate", "", "--password", "*")
NO_GROUPS = ("--groups", "")


def find(name: str) -> Optional[pwd.struct_passwd]:
    """Return the Unix account of a login; None if there is none."""
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
    """Return the account if uid, gid and home are as recorded, None if it is gone; NotManaged when they differ."""
    account = find(name)
    if account is None and _is_account(uid):
        raise NotManaged(f"uid {uid} of {login_of(name)!r} was given to another Unix account; it is left alone")
    if account is not None and (account.pw_uid, account.pw_gid, account.pw_dir) != (uid, uid, NO_HOME):
        raise NotManaged(f"the Unix account {login_of(name)!r} is not the one that CodeSmith made; it is left alone")
    return account


def check_unshared(name: str, uid: int) -> None:
    """Raise NotManaged when another account has this uid, or the login's group another gid: a change would hit both."""
    login = login_of(name)
    other = next((one.pw_name for one in pwd.getpwall() if one.pw_uid == uid and one.pw_name != login), None)
    if other is not None:
        raise NotManaged(f"the Unix account {other!r} has uid {uid} of {login!r} too; both are left alone")
    try:
        group = grp.getgrnam(login)
    except KeyError:
        return
    if group.gr_gid != uid:
        raise NotManaged(f"the Unix group {login!r} is not the one that CodeSmith made; it is left alone")


def first_free(uid: int, within: uids.Range) -> int:
    """Return the first number from `uid` on that no account, group or subordinate range has; LimitReached if none."""
    subordinates = uids.subordinates()
    while within.has(uid):
        others = [one.range.last for one in subordinates if one.range.has(uid)]
        if not others and not _is_taken(uid):
            return uid
        uid = max(others, default=uid) + 1
    raise LimitReached(f"all uids from {within} have been given out, or are in use", hint="inv node.prepare")


def shell() -> str:
    """Return the path of the shell that what runs in a workspace has."""
    return next((path for path in SHELLS if os.access(path, os.X_OK)), SHELLS[-1])


def is_complete(name: str) -> bool:
    """Tell whether the account is in every database; a useradd that was killed leaves it in some only."""
    return databases_with(login_of(name)) == {path for path in DATABASES if os.path.exists(path)}


def ensure(name: str, uid: int, *, is_user: bool) -> None:
    """Make the account, or make it again if an interrupted run left a part of it; a complete one stays as it is.

    That of a user is in the group of logins, and closed all the same.
    """
    if check_ours(name, uid) is not None and is_complete(name):
        return
    remove(name, uid)
    _add(login_of(name), uid, _groups(is_user=is_user))
    if check_ours(name, uid) is None or not is_complete(name):
        raise CommandFailed(
            f"useradd made an incomplete account {login_of(name)!r}", command="useradd", exit_code=0, stderr=""
        )


def remove(name: str, uid: int) -> None:
    """Remove account and group, also incomplete ones. Its processes must have ended: userdel refuses otherwise."""
    login = login_of(name)
    if check_ours(name, uid) is not None:
        _delete(login)
    _remove_own_group(login, uid)
    if databases_with(login):
        # Only shadow lines are left, which no tool removes alone: complete the account, then remove it.
        _add(login, uid, NO_GROUPS)
        _delete(login)
        _remove_own_group(login, uid)
    if databases_with(login):
        raise CommandFailed(f"userdel left the account {login!r}", command="userdel", exit_code=0, stderr="")


def no_shell() -> str:
    """Return the path of the shell of accounts, which lets nobody in."""
    return next((path for path in NOLOGIN if os.access(path, os.X_OK)), NOLOGIN[-1])


def close_access(name: str) -> None:
    """Close an account as a new one is: expired, locked, no shell. PAM then refuses it to sshd, cron, at and su.

    It needs only the databases of databases.ACCESS: no group that cannot be changed keeps an account open.
    """
    _run_tool("usermod", *CLOSED, "--shell", no_shell(), "--", login_of(name))


def open_access(name: str) -> None:
    """Let the node's sshd have an account: first the group for which sshd has its settings, then shell and expiry."""
    if login_of(name) not in grp.getgrnam(LOGINS_GROUP).gr_mem:
        _run_tool("usermod", "--groups", LOGINS_GROUP, "--", login_of(name))
    _run_tool("usermod", *OPEN, "--shell", ENTER, "--", login_of(name))


def has_logins_group() -> bool:
    """Tell whether prepare has made the group of logins that sshd lets in."""
    try:
        grp.getgrnam(LOGINS_GROUP)
    except KeyError:
        return False
    return True


def is_expired(name: str) -> bool:
    """Tell whether an account is expired, as `close_access` leaves it."""
    login = login_of(name)
    with open("/etc/shadow", encoding="utf-8", errors="surrogateescape") as file:
        fields = next((line.rstrip("\n").split(":") for line in file if line.startswith(f"{login}:")), [])
    return fields[7:8] == [EXPIRED]


def reset(name: str, administered: Dict[str, List[str]], *, is_user: bool, is_open: bool) -> None:
    """Reset an account: closed or open, no ageing, no groups but its own, no other members in that.

    That of a user is in the group of logins also while the door is shut: only so `sshd -T` tells when it may be opened.
    `administered` names the groups of others that it administers, and their other administrators, who stay.
    """
    login = login_of(name)
    # First, and also for one that will be open: without its group sshd has no settings for it.
    close_access(name)
    ageing = ("--mindays", "-1", "--maxdays", "-1", "--warndays", "-1", "--inactive", "-1", "--lastday", "-1")
    _run_tool("chage", *ageing, "--", login)
    _run_tool("usermod", *_groups(is_user=is_user), "--", login)
    # Only /etc/gshadow knows of administrators; without it gpasswd refuses to hear of any.
    administrators = ("--administrators", "") if os.path.exists(GSHADOW) else ()
    _run_tool("gpasswd", "--members", "", *administrators, login)
    for group, others in administered.items():
        _run_tool("gpasswd", "--administrators", ",".join(others), group)
    if is_open:
        open_access(name)


def _run_tool(program: str, *arguments: str, allowed: Collection[int] = (0,)) -> None:
    """Run a tool that changes the account databases; it is never killed, and no other change starts before it ends.

    The tools sync the files that they write, but not the directory in which they rename them. That is done here.
    """
    run(program, *arguments, allowed=allowed, timeout_s=None, keeps=lock_descriptors())
    sync_folder(databases.FOLDER)


def _groups(*, is_user: bool) -> Tuple[str, str]:
    return ("--groups", LOGINS_GROUP) if is_user and has_logins_group() else NO_GROUPS


def _add(login: str, uid: int, groups: Tuple[str, str]) -> None:
    """Make a closed account with a group of its own.

    The ranges make useradd choose gid = uid, and keep it from changing /etc/subuid, which it does for uids between
    UID_MIN and UID_MAX. (SUB_UID_COUNT=0, the documented way, fails on Debian 11.)
    """
    ranges = (f"UID_MIN={uid + 1}", f"UID_MAX={uid + 1}", f"GID_MIN={uid}", f"GID_MAX={uid}")
    keys = [part for pair in (*ranges, *NO_AGEING) for part in ("--key", pair)]
    _run_tool(
        "useradd", *keys, *groups, *CLOSED, "--uid", str(uid), "--user-group", "--no-create-home", "--no-log-init",
        "--home-dir", NO_HOME, "--shell", no_shell(), "--comment", COMMENT, "--", login,
    )  # fmt: skip


def _delete(login: str) -> None:
    # 12: the home could not be removed, which is done elsewhere. Never -r or -f.
    _run_tool("userdel", "--", login, allowed=(0, 12))


def databases_with(login: str) -> Set[str]:
    """Return the account databases that have a line for this login."""
    paths = set()
    for path in DATABASES:
        try:
            with open(path, "rb") as file:
                if any(line.startswith(login.encode() + b":") for line in file):
                    paths.add(path)
        except FileNotFoundError:
            pass
    return paths


def _remove_own_group(login: str, uid: int) -> None:
    """Remove the group that a half-made or half-removed account left; NotManaged if its gid is not the account's."""
    try:
        group = grp.getgrnam(login)
    except KeyError:
        return
    if group.gr_gid != uid:
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
