"""Verbs about workspaces: create, assign, share and remove them.

A workspace has its own login, which owns its files for life; a user is who may open it.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any, Dict, List, Optional

from agent.helper import logins, lost_records, suspension, users
from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.helper.ledger.lock import exclusive_ledger
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.runtime import disk_quota
from agent.helper.trees import trash, trees
from agent.shared.clock import now
from agent.shared.errors import AlreadyExists, Disabled, InUse, InvalidParams, NotFound
from agent.shared.names import FOLDERS, HOMES, WORKSPACES, home_of, login_of, parse_name, path_of

AGENTS_MD = """\
# Workspace {name}

You work on node `{node}` as the Unix user `{login}`, in `{path}`.

- Code belongs in `code/`, settings in `config/`, data in `data/`, logs in `logs/`; `tmp/` may be emptied at any time.
- **Read `.codesmith/AGENTS.md` first**: which limits and which network hold now, how to show a page, how long work
  goes on, what to do when something is denied, and what there is not. CodeSmith keeps it current.
- This file is yours: write down here what the next one should know of the work.
"""


def ensure_workspace(caller: socket.socket, name: Any, user: Any, dedicated: Any) -> Dict[str, Any]:
    """Make a workspace of an active user, with its login, complete or not at all; or return the one it made.

    `dedicated` makes the user of its name too: one verb, one lock, for the usual case.
    """
    name, user = parse_name(name), parse_name(user, "user")
    if not isinstance(dedicated, bool) or (dedicated and user != name):
        raise InvalidParams.of("dedicated", "must be true or false, and true only for the user of its name")
    with exclusive_ledger() as ledger:
        lost_records.forget_stale(ledger, name)
        record, new_user = ledger.workspace(name), _check_user(ledger, name, user, dedicated=dedicated)
        if record is None:
            record = WorkspaceRecord(name, user, str(uuid.uuid4()), "pending", now())
            logins.add(ledger, name, new_user, record)
        elif record.user != user or record.state == "leaving":
            raise InUse(f"workspace {name!r} belongs to user {record.user!r}, or is being deleted")
        with logins.undone_on_error(ledger, name):
            login = logins.ensure(ledger, name)
            if not trees.is_owned_directory(HOMES, login_of(name), login.uid):
                trees.make(HOMES, login_of(name), login.uid, 0o700, [])
            if not trees.is_owned_directory(WORKSPACES, name, login.uid):
                trees.make(WORKSPACES, name, login.uid, 0o700, _workspace_entries(record))
        ledger.activate(name)
    account = users.account_of(name, login.uid) if dedicated else None
    return {**_describe(record, login.uid), "user": user, "account": account}


def assign_workspace(caller: socket.socket, name: Any, user: Any) -> Dict[str, Any]:
    """Give a workspace to another active user, and end what runs in it. The second call completes the first."""
    name, user = parse_name(name), parse_name(user, "user")
    with exclusive_ledger() as ledger:
        if _active_workspace(ledger, name).user != user:
            _check_active(ledger, user)
        with pending_on_error():
            ledger.assign(name, user)
            suspension.end_all(ledger, [name])
            new_user = ledger.user(user)
            # It is sealed when its previous user is disabled.
            if new_user is not None and new_user.state == "active" and suspension.is_sealed(ledger, name):
                suspension.unseal_workspace(ledger, name)
        return _shares(ledger, name)


def share_workspace(caller: socket.socket, name: Any, user: Any) -> Dict[str, Any]:
    """Let another active user enter a workspace too."""
    name, user = parse_name(name), parse_name(user, "user")
    with exclusive_ledger() as ledger:
        record = _active_workspace(ledger, name)
        if user not in (record.user, *_shares(ledger, name)["shared_with"]):
            _check_active(ledger, user)
            ledger.share(name, user)
        return _shares(ledger, name)


def unshare_workspace(caller: socket.socket, name: Any, user: Any) -> Dict[str, Any]:
    """Keep a user out of a workspace again, and end what runs in it. The second call completes the first."""
    name, user = parse_name(name), parse_name(user, "user")
    with exclusive_ledger(frees_space=True) as ledger:
        _active_workspace(ledger, name)
        with pending_on_error():
            ledger.unshare(name, user)
            suspension.end_all(ledger, [name])
        return _shares(ledger, name)


def remove_workspace(caller: socket.socket, name: Any, remove_user: Any) -> Dict[str, Any]:
    """End what runs in a workspace and remove its directory, its home and its login.

    `remove_user` removes the user of its name too, if it is the workspace's and owns no other, and ends what runs in
    workspaces that are shared with it. The login stays while that user is there. `user_removed` in the answer tells
    whether the user is gone.
    """
    name = parse_name(name)
    if not isinstance(remove_user, bool):
        raise InvalidParams.of("remove_user", "must be true or false")
    with exclusive_ledger(frees_space=True) as ledger:
        login, record = lost_records.restore(ledger, name), ledger.workspace(name)
        if login is None or record is None:
            logins.check_no_directory(name)
            return {"leftovers": [], "user_removed": remove_user and login is None}
        is_last = remove_user and record.user == name and ledger.workspaces_of(name) == [name]
        with_account = is_last or ledger.user(name) is None
        entered = ledger.workspaces_open_to(name) if is_last else [name]
        logins.check_removable(login, with_account=with_account)
        if is_last:
            logins.check_ours(ledger, entered)
        with pending_on_error():
            ledger.mark_workspace(name, "leaving")
            if with_account:
                logins.shut_out(ledger, login)
            suspension.end_all(ledger, entered)
            left = logins.remove(ledger, login, with_account=with_account)
            disk_quota.forget(ledger, name)
            ledger.remove(name, workspace=True, user=is_last)
    return {"leftovers": [*left, *trash.empty()], "user_removed": is_last}


def _check_user(ledger: Ledger, name: str, user: str, *, dedicated: bool) -> Optional[UserRecord]:
    """Return the record of a dedicated user to be made with its workspace; None when the user is there.

    NotFound or Disabled when it may have no workspace, AlreadyExists when the name is that of another user.
    """
    if user != name and ledger.user(name) is not None:
        raise AlreadyExists(f"{name!r} is a user, and a name is one thing on a node")
    record = ledger.user(user)
    if record is None and dedicated:
        return UserRecord(name, "pending", now())
    if not (dedicated and record is not None and record.state == "pending"):
        _check_active(ledger, user)
    return None


def _check_active(ledger: Ledger, user: str) -> None:
    """Raise NotFound or Disabled unless a user is active."""
    record = ledger.user(user)
    if record is None or record.state == "pending":
        raise NotFound(f"no user {user!r} on this node")
    if record.state != "active":
        raise Disabled.user(user)


def _shares(ledger: Ledger, name: str) -> Dict[str, Any]:
    """Return with whom a workspace is shared."""
    return {"shared_with": ledger.shares().get(name, [])}


def _active_workspace(ledger: Ledger, name: str) -> WorkspaceRecord:
    """Return the record of a workspace that may be changed; NotFound, InUse or NotManaged otherwise."""
    record = ledger.workspace(name)
    if record is None:
        raise NotFound(f"no workspace {name!r} on this node")
    logins.check_settled(record.state, f"workspace {name!r}")
    logins.check_ours(ledger, [name])
    return record


def _workspace_entries(record: WorkspaceRecord) -> List[trees.Entry]:
    text = AGENTS_MD.format(
        name=record.name, node=os.uname().nodename, login=login_of(record.name), path=path_of(record.name)
    )
    return [*(trees.Entry(folder, 0o700) for folder in FOLDERS), trees.Entry("AGENTS.md", 0o600, text.encode())]


def _describe(record: WorkspaceRecord, uid: int) -> Dict[str, Any]:
    """Return what stays true of a workspace for life: whose it is, is not among it."""
    return {
        "id": record.id,
        "name": record.name,
        "path": path_of(record.name),
        "home": home_of(record.name),
        "login": login_of(record.name),
        "uid": uid,
        "gid": uid,
        "created_at": record.created_at,
    }
