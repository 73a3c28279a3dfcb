"""What the store claims to be ours, held against what only root can write: the account databases and the directories.

The store may be forged, and a name may be made again by hand. What is not ours is not shown. What is gone is: so it can
be deleted.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from typing import Any, Dict, Iterable, Iterator, Optional

from agent.shared import uids
from agent.shared.names import NAME, home_of, login_of, path_of

Document = Dict[str, Any]


def is_user(document: Document) -> bool:
    """Tell whether a user's document is of an account that we made, or that is gone."""
    return _is_account_of(document, _account(document["login"]))


def managed_users(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield those that are ours; the account databases are read once, however many they are."""
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return (document for document in documents if _is_account_of(document, accounts.get(document["login"])))


def is_workspace(document: Document) -> bool:
    """Tell whether a workspace's document is of a directory that we made, or that is gone or on its way."""
    name = document["name"]
    claimed = (document["path"], document["login"])
    if not (is_name(name) and is_name(document["user"])) or claimed != (path_of(name), login_of(document["user"])):
        return False
    if not is_uid(document["uid"]):
        return False
    try:
        found = os.lstat(path_of(name))
    except OSError:
        return True
    is_moving = document.get("state", "ready") != "ready" and is_uid(found.st_uid)
    return stat.S_ISDIR(found.st_mode) and (is_moving or found.st_uid == document["uid"] or is_sealed(found))


def is_user_on_node(name: str) -> bool:
    """Tell whether the node has an account, a group or a home that looks like that of a user of this name."""
    account, group = _account(login_of(name)), _group(login_of(name))
    if account is not None and is_uid(account.pw_uid) and account.pw_dir == home_of(name):
        return True
    return (group is not None and is_uid(group.gr_gid)) or _is_of_us(home_of(name))


def is_workspace_on_node(name: str) -> bool:
    """Tell whether the node has a directory that looks like that of a workspace of this name."""
    return _is_of_us(path_of(name))


def is_sealed(found: os.stat_result) -> bool:
    """Tell whether a directory is closed with its disabled user. One that root put there has some rights."""
    return found.st_uid == 0 and stat.S_IMODE(found.st_mode) == 0


def mode_of(workspace: str) -> str:
    """Return the permissions of a workspace's directory as they are; while it is not there, those it is made with."""
    try:
        return f"{stat.S_IMODE(os.lstat(path_of(workspace)).st_mode):04o}"
    except OSError:
        return "0700"


def is_name(value: Any) -> bool:
    """Tell whether a value can be the name of a user or workspace."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def is_uid(value: Any) -> bool:
    """Tell whether a value is a uid of one of the node's ranges."""
    return isinstance(value, int) and any(one.has(value) for one in uids.known())


def _is_of_us(path: str) -> bool:
    """Tell whether a path is a directory of one of our logins, or one that is closed with its user."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (is_uid(found.st_uid) or is_sealed(found))


def _group(login: str) -> Optional[grp.struct_group]:
    try:
        return grp.getgrnam(login)
    except KeyError:
        return None


def _is_account_of(document: Document, account: Optional[pwd.struct_passwd]) -> bool:
    name, uid = document["name"], document["uid"]
    if not is_name(name) or not is_uid(uid):
        return False
    if (document["login"], document["gid"], document["home"]) != (login_of(name), uid, home_of(name)):
        return False
    return account is None or (account.pw_uid, account.pw_gid) == (uid, uid)


def _account(login: str) -> Optional[pwd.struct_passwd]:
    try:
        return pwd.getpwnam(login)
    except KeyError:
        return None
