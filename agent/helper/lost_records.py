"""Restore records that the ledger has lost, as after a restored backup: the node decides, not the missing record.

"Not in the ledger" is not "gone". The record is restored if account and directories have what only root can write, as
CodeSmith writes it. Anything else of that name is reported and left alone. Whose a workspace was the node does not
tell: it becomes that of a user of its own name.
"""

from __future__ import annotations

import os
import pwd
import stat
import uuid
from typing import List, Optional

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger, LoginRecord, UserRecord, WorkspaceRecord
from agent.helper.trees import trees
from agent.shared.clock import now
from agent.shared.errors import NotManaged
from agent.shared.names import HOMES, LOGIN_PREFIX, NO_HOME, WORKSPACES, home_of, is_name, login_of, path_of
from agent.shared.ownership import is_sealed, is_uid


def restore(ledger: Ledger, name: str) -> Optional[LoginRecord]:
    """Return the record of a login, restored with those of its user and its workspace if the ledger has lost them.

    None when the node has nothing of that name; NotManaged when it has something that CodeSmith did not make.
    """
    login = ledger.login(name)
    if login is None:
        there = traces_of(name)
        if not there:
            return None
        account = made_by_us(accounts.find(name))
        if account is None or ledger.login_of_uid(account.pw_uid) is not None:
            command = f"getent passwd {login_of(name)}; ls -ld {home_of(name)} {path_of(name)}"
            problem = f"the helper's ledger does not know {name!r}, but the node has {', '.join(there)}"
            raise NotManaged(f"{problem}; nothing is changed", hint=f"on the node: {command}")
        login = LoginRecord(name, account.pw_uid, "active", now())
        ledger.add(login, UserRecord(name, "active", now()))
    if ledger.workspace(name) is None and _owner_of(WORKSPACES, name) == login.uid:
        ledger.add(WorkspaceRecord(name, name, str(uuid.uuid4()), "active", now()))
    return login


def forget_stale(ledger: Ledger, name: str) -> None:
    """Drop the records of a name if the node has nothing of it; made again, it gets another uid."""
    login, others = ledger.login(name), [one for one in ledger.workspaces_of(name) if one != name]
    if login is not None and login.state != "pending" and not others and not traces_of(name):
        ledger.remove(name, workspace=True, user=True)


def traces_of(name: str) -> List[str]:
    """Return what the node has under a name: lines of account databases, home and workspace."""
    login = login_of(name)
    lines = [f"{login} in {path}" for path in sorted(accounts.databases_with(login))]
    places = ((HOMES, login, home_of(name)), (WORKSPACES, name, path_of(name)))
    return [*lines, *(path for parent, entry, path in places if trees.exists(parent, entry))]


def kind_of(name: str) -> str:
    """Return what a login without a record is that of: a workspace, if there is a directory of that name, or a user."""
    return "workspace" if trees.exists(WORKSPACES, name) else "user"


def made_by_us(account: Optional[pwd.struct_passwd]) -> Optional[pwd.struct_passwd]:
    """Return the account if login, home, ids and comment, which only root can write, are as CodeSmith makes them."""
    if account is None or not account.pw_name.startswith(LOGIN_PREFIX):
        return None
    # Only the first field of the comment: users can set the others with chfn.
    words = (account.pw_gid, account.pw_dir, account.pw_gecos.split(",")[0])
    is_ours = is_uid(account.pw_uid) and words == (account.pw_uid, NO_HOME, accounts.COMMENT)
    return account if is_ours and is_name(account.pw_name[len(LOGIN_PREFIX) :]) else None


def _owner_of(parent: str, name: str) -> int:
    """Return the uid that owns a directory, or did before it was sealed; -1 without a directory."""
    with trees.open_base(parent) as base:
        try:
            status = os.stat(name, dir_fd=base, follow_symlinks=False)
        except FileNotFoundError:
            return -1
    if not stat.S_ISDIR(status.st_mode):
        return -1
    return status.st_gid if is_sealed(status) else status.st_uid
