"""Verbs about users: create, disable, enable, repair and remove them. A user has a login, and owns no files."""

from __future__ import annotations

import socket
from typing import Any, Dict, List

from agent.helper import logins, lost_records, suspension
from agent.helper.accounts import accounts, databases, login_keys, policy
from agent.helper.ledger.ledger import Ledger, LoginRecord, UserRecord
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.trees import trash
from agent.shared.clock import now
from agent.shared.errors import AgentError, AlreadyExists, CommandFailed, Disabled, InUse, NotFound, NotManaged
from agent.shared.names import NO_HOME, login_of, parse_name


def ensure_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Make a user and its account, or finish making them; the second call changes nothing."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        lost_records.forget_stale(ledger, name)
        record = ledger.user(name)
        if record is None and ledger.workspace(name) is not None:
            raise AlreadyExists(f"{name!r} is a workspace, and a name is one thing on a node")
        if record is not None and record.state == "disabled":
            raise Disabled.user(name)
        logins.add(ledger, name, None if record else UserRecord(name, "pending", now()), None)
        with logins.undone_on_error(ledger, name):
            uid = logins.ensure(ledger, name).uid
        ledger.activate(name)
    return account_of(name, uid)


def account_of(name: str, uid: int) -> Dict[str, Any]:
    """Return what is shown of a user's account."""
    return {"login": login_of(name), "uid": uid, "gid": uid, "home": NO_HOME, "shell": shell_of(name)}


def shell_of(name: str) -> str:
    """Return the shell that a login has in the account databases."""
    account = accounts.find(name)
    return account.pw_shell if account is not None else accounts.no_shell()


def disable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Close a user's workspaces and end all that runs in them; it stays so until it is enabled."""
    name = parse_name(name)
    with exclusive_ledger(frees_space=True) as ledger:
        suspension.disable(ledger, _managed_user(ledger, name))
    return {"shell": shell_of(name)}


def enable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Restore what `disable_user` changed; repair the accounts of an active user and its workspaces."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        suspension.enable(ledger, _managed_user(ledger, name))
    return {"shell": shell_of(name)}


def put_keys(caller: socket.socket, name: Any, keys: Any) -> Dict[str, Any]:
    """Replace the keys by which a user comes in through the node's sshd; Disabled for a disabled one, who has none.

    The account is open only while there is one.
    """
    name, lines = parse_name(name), login_keys.parse(keys)
    with exclusive_ledger(frees_space=not lines) as ledger:
        lost_records.restore(ledger, name)
        user = ledger.user(name)
        if user is None:
            raise NotFound(f"no user {name!r} on this node")
        logins.check_account(ledger, name)
        if user.state == "disabled":
            raise Disabled.user(name)
        logins.put_keys(ledger, name, lines)
    return {"shell": shell_of(name)}


def read_drift(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Return by name how accounts differ from what they should be: that of `name`, or all when it is null."""
    with read_ledger() as ledger:
        node, records = policy.Accounts(), _active_logins(ledger, name)
        return {"drift": {one.name: node.differences(one.name) for one in records}}


def put_right(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Repair the account of a login, or all when `name` is null; an account without drift is not changed.

    One whose record the ledger has lost gets it back. Of all, each is tried, and the first error is raised. A user
    whose disabling was interrupted, or undone by hand, is disabled completely.
    """
    refusals: List[AgentError] = []
    with exclusive_ledger() as ledger:
        if name is not None and lost_records.restore(ledger, parse_name(name)) is None:
            raise NotFound(f"{name!r} has no login on this node")
        for record in _active_logins(ledger, name):
            try:
                if name is not None or accounts.check_ours(record.name, record.uid) is not None:
                    logins.check_account(ledger, record.name)
                    logins.repair(ledger, record.name)
                    _close_again(ledger, record.name)
            except (CommandFailed, NotManaged) as refusal:
                refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return {}


def remove_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Remove a user, and its account unless a workspace has it; InUse while it owns workspaces."""
    name = parse_name(name)
    left: List[str] = []
    with exclusive_ledger(frees_space=True) as ledger:
        login = lost_records.restore(ledger, name)
        if login is not None and ledger.user(name) is not None:
            owned = ledger.workspaces_of(name)
            if owned:
                problem = f"user {name!r} owns workspaces: {', '.join(owned)}"
                raise InUse(problem, hint=f"inv workspace.delete {owned[0]}")
            is_last = ledger.workspace(name) is None
            if is_last:
                logins.check_removable(login, with_account=True)
                databases.check_changeable(ledger.free_reserve)
            logins.check_ours(ledger, ledger.workspaces_open_to(name))
            with pending_on_error():
                if is_last:
                    logins.shut_out(ledger, login)
                else:
                    logins.close(name, login.uid)
                suspension.end_all(ledger, ledger.workspaces_open_to(name))
                if is_last:
                    left = logins.remove(ledger, login, with_account=True)
                ledger.remove(name, user=True)
    return {"leftovers": [*left, *trash.empty()]}


def _active_logins(ledger: Ledger, name: Any) -> List[LoginRecord]:
    """Return the record of a login, or of all, without those that are being made or removed."""
    records = ledger.logins() if name is None else [ledger.login(parse_name(name))]
    return [one for one in records if one is not None and one.state == "active"]


def _close_again(ledger: Ledger, name: str) -> None:
    """Complete the disabling of a user whose workspaces are not all sealed."""
    user = ledger.user(name)
    if user is not None and user.state == "disabled":
        own = ledger.workspaces_of(name)
        if any(suspension.is_open(ledger, one) for one in own):
            suspension.disable(ledger, user)


def _managed_user(ledger: Ledger, name: str) -> UserRecord:
    """Return the record of a user whose account exists and is CodeSmith's, like those of the workspaces that it enters.

    NotFound, InUse or NotManaged otherwise.
    """
    lost_records.restore(ledger, name)
    user = ledger.user(name)
    if user is None:
        raise NotFound(f"no user {name!r} on this node")
    logins.check_account(ledger, name)
    logins.check_ours(ledger, ledger.workspaces_open_to(name))
    return user
