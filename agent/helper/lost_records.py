"""Restore records that the ledger has lost, as after a restored backup: the node decides, not the missing record.

"Not in the ledger" is not "gone". The record is restored if account or workspace have what only root can write, as
CodeSmith writes it. Anything else of that name is reported and left alone.
"""

from __future__ import annotations

import os
import pwd
import stat
import uuid
from typing import List, Optional

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.helper.trees import handover, trees
from agent.shared.clock import now
from agent.shared.errors import NotManaged
from agent.shared.names import HOMES, LOGIN_PREFIX, WORKSPACES, home_of, login_of
from agent.shared.ownership import is_name, is_sealed, is_uid


def restore_user(ledger: Ledger, name: str) -> Optional[UserRecord]:
    """Return the record of a user, restored if the ledger has lost it, with those of its workspaces.

    None when nothing of the user is on the node; NotManaged when something is that CodeSmith did not make.
    """
    record = ledger.user(name)
    if record is None:
        there = traces_of(name)
        if not there:
            return None
        account = made_by_us(accounts.find(name))
        if account is None or ledger.user_of_uid(account.pw_uid) is not None:
            raise _not_managed(f"user {name!r}", there, f"getent passwd {login_of(name)}; ls -ld {home_of(name)}")
        record = ledger.restore_user(name, account.pw_uid, now())
        restore_workspaces(ledger, record)
    return record


def restore_workspaces(ledger: Ledger, user: UserRecord) -> None:
    """Record the workspaces whose directory a user owns and that the ledger does not have, or has as another user's."""
    known = {one.name for one in ledger.workspaces() if one.user == user.name or one.state != "active"}
    with trees.open_base(WORKSPACES) as base, os.scandir(base) as entries:
        # One pass for all: there may be thousands.
        others = [entry for entry in entries if entry.name not in known and is_name(entry.name)]
        owned = [entry.name for entry in others if _uid_of(entry.stat(follow_symlinks=False)) == user.uid]
    for name in owned:
        _put_workspace(ledger, name, user)


def restore_workspace(ledger: Ledger, name: str) -> Optional[WorkspaceRecord]:
    """Return the record of a workspace, restored if the ledger has lost it or has another owner than the directory.

    None when the node has no directory of it; NotManaged when it has one that CodeSmith did not make.
    """
    record = ledger.workspace(name)
    if record is not None:
        owner = _user_of(ledger, _owner_of(name)) if record.state == "active" else None
        return record if owner is None or owner.name == record.user else _put_workspace(ledger, name, owner)
    there = [f"{parent}/{entry}" for parent, entry in handover.places_of(name) if trees.exists(parent, entry)]
    if not there:
        return None
    owner = _user_of(ledger, _owner_of(name))
    if owner is None:
        raise _not_managed(f"workspace {name!r}", there, f"ls -ld {there[0]}")
    return _put_workspace(ledger, name, owner)


def forget_stale_user(ledger: Ledger, record: UserRecord) -> bool:
    """Drop the record of a user if the node has nothing of it or its workspaces; made again, it gets another uid."""
    owned = ledger.workspaces_of(record.name)
    places = [place for workspace in owned for place in handover.places_of(workspace)]
    if traces_of(record.name) or any(trees.exists(*place) for place in places):
        return False
    for workspace in owned:
        ledger.remove_workspace(workspace)
    ledger.remove_user(record.name)
    return True


def traces_of(name: str) -> List[str]:
    """Return what the node has under the name of a user: lines of account databases, the home."""
    login = login_of(name)
    lines = [f"{login} in {path}" for path in sorted(accounts.databases_with(login))]
    return [*lines, *([home_of(name)] if trees.exists(HOMES, login) else [])]


def made_by_us(account: Optional[pwd.struct_passwd]) -> Optional[pwd.struct_passwd]:
    """Return the account if login, home, ids and comment, which only root can write, are as CodeSmith makes them."""
    if account is None or not account.pw_name.startswith(LOGIN_PREFIX):
        return None
    name = account.pw_name[len(LOGIN_PREFIX) :]
    # Only the first field of the comment: users can set the others with chfn.
    words = (account.pw_gid, account.pw_dir, account.pw_gecos.split(",")[0])
    is_ours = is_uid(account.pw_uid) and words == (account.pw_uid, home_of(name), accounts.COMMENT)
    return account if is_ours and is_name(name) else None


def _not_managed(what: str, there: List[str], command: str) -> NotManaged:
    problem = f"the helper's ledger does not know {what}, but the node has {', '.join(there)}; nothing is changed"
    return NotManaged(problem, hint=f"on the node: {command}")


def _user_of(ledger: Ledger, uid: int) -> Optional[UserRecord]:
    """Return the user with a uid, restored if the ledger has lost it; None when CodeSmith has no such user."""
    record = ledger.user_of_uid(uid)
    if record is not None or not is_uid(uid):
        return record
    try:
        account = made_by_us(pwd.getpwuid(uid))
    except KeyError:
        return None
    return None if account is None else restore_user(ledger, account.pw_name[len(LOGIN_PREFIX) :])


def _owner_of(workspace: str) -> int:
    """Return the uid that owns a workspace's directory, or did before it was sealed; -1 without a directory."""
    with trees.open_base(WORKSPACES) as base:
        try:
            status = os.stat(workspace, dir_fd=base, follow_symlinks=False)
        except FileNotFoundError:
            return -1
    return _uid_of(status)


def _uid_of(status: os.stat_result) -> int:
    if not stat.S_ISDIR(status.st_mode):
        return -1
    return status.st_gid if is_sealed(status) else status.st_uid


def _put_workspace(ledger: Ledger, name: str, owner: UserRecord) -> WorkspaceRecord:
    """Record that a workspace belongs to a user."""
    record = ledger.workspace(name)
    if record is None:
        record = WorkspaceRecord(name, owner.name, str(uuid.uuid4()), "active", now())
        ledger.add_workspace(record)
    else:
        ledger.end_assignment(name, owner.name)
    return record._replace(user=owner.name)
