"""Checks the store against what only root can write: the account databases and the directories.

The store may be forged, and somebody may create an account or directory of the same name. What CodeSmith did not create
is not shown. What is gone is shown, so that it can be deleted.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import Any, Dict, Iterable, Iterator, Optional

from agent.shared import uids
from agent.shared.names import NO_HOME, home_of, is_name, login_of, path_of

Document = Dict[str, Any]


def is_user(document: Document) -> bool:
    """Return whether a user's document belongs to an account that CodeSmith created, or that is gone."""
    return _is_account_of(document, _account(document["login"]))


def managed_logins(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield the documents of users and workspaces whose account CodeSmith created, or that is gone.

    The account databases are read only once.
    """
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return (document for document in documents if _is_account_of(document, accounts.get(document["login"])))


def is_workspace(document: Document) -> bool:
    """Return whether a workspace's document belongs to a directory that CodeSmith created, or that is gone."""
    name = document["name"]
    claimed = (document["path"], document["home"], document["login"])
    if not (is_name(name) and is_name(document["user"])):
        return False
    if claimed != (path_of(name), home_of(name), login_of(name)):
        return False
    if not is_uid(document["uid"]):
        return False
    try:
        entry = os.lstat(path_of(name))
    except OSError:
        return True
    return stat.S_ISDIR(entry.st_mode) and (entry.st_uid == document["uid"] or is_sealed(entry))


def is_user_on_node(name: str) -> bool:
    """Return whether the node has an account or group that looks like one of CodeSmith's for this user."""
    account, group = _account(login_of(name)), _group(login_of(name))
    if account is not None and is_uid(account.pw_uid) and account.pw_dir == NO_HOME:
        return True
    return group is not None and is_uid(group.gr_gid)


def is_workspace_on_node(name: str) -> bool:
    """Return whether the node has a directory that looks like one of CodeSmith's for this workspace."""
    return _is_managed_directory(path_of(name)) or _is_managed_directory(home_of(name))


def is_sealed(entry: os.stat_result) -> bool:
    """Return whether a directory is closed because its user is disabled: mode 0000, and owned by root."""
    return entry.st_uid == 0 and stat.S_IMODE(entry.st_mode) == 0


def mode_of(workspace: str) -> str:
    """Return the mode of a workspace's directory as four octal digits; 0700 when it is not there."""
    try:
        return f"{stat.S_IMODE(os.lstat(path_of(workspace)).st_mode):04o}"
    except OSError:
        return "0700"


def is_uid(value: Any) -> bool:
    """Return whether a value is a uid in one of the node's ranges."""
    return isinstance(value, int) and any(one.has(value) for one in uids.known())


def _is_managed_directory(path: str) -> bool:
    """Return whether a path is a directory of a CodeSmith login, or one that is closed with its disabled user."""
    try:
        entry = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(entry.st_mode) and (is_uid(entry.st_uid) or is_sealed(entry))


def _group(login: str) -> Optional[grp.struct_group]:
    try:
        return grp.getgrnam(login)
    except KeyError:
        return None


def _is_account_of(document: Document, account: Optional[pwd.struct_passwd]) -> bool:
    name, uid = document["name"], document["uid"]
    if not is_name(name) or not is_uid(uid):
        return False
    if (document["login"], document["gid"]) != (login_of(name), uid):
        return False
    return account is None or (account.pw_uid, account.pw_gid) == (uid, uid)


def _account(login: str) -> Optional[pwd.struct_passwd]:
    try:
        return pwd.getpwnam(login)
    except KeyError:
        return None
