"""Disable and enable users: end what runs in their workspaces, and seal these."""

from __future__ import annotations

from typing import Dict, List

from agent.helper import logins
from agent.helper.accounts import accounts, databases, door_sessions, login_keys, login_marks, processes
from agent.helper.ledger.ledger import Ledger, UserRecord
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.runtime import units
from agent.helper.trees import directory_seal, mounts, trees
from agent.helper.trees.directory_seal import Rights
from agent.shared import sshd_door
from agent.shared.names import HOMES, WORKSPACES, login_of


def disable(ledger: Ledger, user: UserRecord) -> None:
    """Close a user's workspaces to everybody and end all that runs there. A second call completes the first.

    What runs in workspaces that are shared with it is ended too, and its sessions at the node's sshd. Nothing starts
    any more from the first change on.
    """
    own = ledger.workspaces_of(user.name)
    opened = [name for name in (user.name, *own) if accounts.find(name) and not accounts.is_expired(name)]
    if user.state != "disabled":
        _check_closable(own)
        if opened:
            databases.check_changeable(ledger.free_reserve, databases.ACCESS)
        ledger.mark_user(user.name, "disabled")
    with pending_on_error():
        for name in opened:
            accounts.close_access(name)
        login_keys.remove(user.name)
        login_marks.write(uid_of(ledger, user.name), login_marks.CLOSED)
        for name in own:
            seal_workspace(ledger, name)
        entered = ledger.workspaces_open_to(user.name)
        is_of_others = ledger.workspace(user.name) is not None and user.name not in entered
        door_sessions.end(user.name, uid_of(ledger, user.name), spares_runtime=is_of_others)
        end_all(ledger, entered)


def enable(ledger: Ledger, user: UserRecord) -> None:
    """Restore what `disable` changed, and repair the accounts; also of an active user, whose record was restored."""
    own = ledger.workspaces_of(user.name)
    sealed = [name for name in own if is_sealed(ledger, name)]
    _check_closable(sealed)
    if user.state == "disabled" and sshd_door.is_open():
        databases.check_changeable()
    for name in (user.name, *own):
        logins.repair(ledger, name)  # nothing, where it is gone; that of a disabled user is open only at the end
    with pending_on_error():
        for name in sealed:
            unseal_workspace(ledger, name)
        ledger.mark_user(user.name, "active")
        logins.repair(ledger, user.name)


def uid_of(ledger: Ledger, name: str) -> int:
    """Return the uid of a user's or workspace's login."""
    login = ledger.login(name)
    assert login is not None  # the ledger's tables refer to each other
    return login.uid


def _places(name: str) -> Dict[str, str]:
    """Return the directories of a workspace, by parent."""
    return {HOMES: login_of(name), WORKSPACES: name}


def _check_closable(workspaces: List[str]) -> None:
    """Raise CommandFailed when a home or workspace is immutable or read-only, before anything changes."""
    for name in workspaces:
        for parent, entry in _places(name).items():
            mounts.refuse_immutable(parent, entry)


def is_open(ledger: Ledger, name: str) -> bool:
    """Tell whether a directory of a workspace is not sealed."""
    uid = uid_of(ledger, name)
    return any(trees.is_owned_directory(*place, uid) for place in _places(name).items())


def is_sealed(ledger: Ledger, name: str) -> bool:
    """Tell whether a directory of a workspace is sealed, also where the ledger has forgotten that."""
    uid = uid_of(ledger, name)
    there = [place for place in _places(name).items() if trees.is_owned_directory(*place, uid, or_sealed=True)]
    return ledger.seal(name) is not None or any(not trees.is_owned_directory(*place, uid) for place in there)


def seal_workspace(ledger: Ledger, name: str) -> None:
    """Seal home and directory of a workspace; one of another owner in their place is left alone.

    Rights that are stored already are kept: an interrupted run has changed the mode.
    """
    uid = uid_of(ledger, name)
    owned = [place for place in _places(name).items() if trees.is_owned_directory(*place, uid)]
    if owned:
        rights = {parent: directory_seal.rights_of(parent, entry, uid) for parent, entry in owned}
        ledger.put_seal(name, {**rights, **(ledger.seal(name) or {})})
    for parent, entry in owned:
        directory_seal.seal(parent, entry, uid)


def unseal_workspace(ledger: Ledger, name: str) -> None:
    """Give home and directory of a workspace back to its login, with the rights that they had."""
    uid, rights = uid_of(ledger, name), ledger.seal(name) or {}
    for parent, entry in _places(name).items():
        is_there = trees.is_owned_directory(parent, entry, uid, or_sealed=True)
        if is_there and not (parent not in rights and trees.is_owned_directory(parent, entry, uid)):
            directory_seal.unseal(parent, entry, uid, Rights(*rights.get(parent, (directory_seal.MODE, uid))))
    ledger.remove_seal(name)


def end_all(ledger: Ledger, workspaces: List[str]) -> None:
    """End the runtimes of workspaces and all processes of their logins; InUse when some survive.

    Processes come first: a unit may take long to stop.
    """
    uids = [uid_of(ledger, name) for name in workspaces]
    for uid in uids:
        processes.end_all(uid)
    units.stop(*workspaces)
    for uid in uids:
        processes.end_all(uid)
