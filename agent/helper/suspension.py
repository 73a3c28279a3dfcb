"""Close a user out and let it in again: what user.disable and user.enable do, and what a deletion begins with."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional, Tuple

from agent.helper.accounts import accounts, databases, homes, policy, processes, schedules
from agent.helper.ledger.ledger import Ledger, UserRecord
from agent.helper.ledger.refusals import half_done
from agent.helper.runtime import jobs, slots
from agent.helper.trees import directory_seal, mounts, trees
from agent.shared.errors import InUse
from agent.shared.names import HOMES, WORKSPACES, login_of
from agent.shared.run import run

END_S = 30.0
PAUSE_S = 0.02


def disable(ledger: Ledger, user: UserRecord) -> None:
    """Close every way in, put away what starts by itself, end everything that runs. The second run completes the first.

    How the account was is on disk before the first change; jobs are refused from then on.
    """
    if ledger.before_disabled(user.name) is None:
        # The account needs no record: it is opened as a new one. (The first three are for a release that reads them.)
        before = _closed_before(ledger, user) or {
            **_as_new(),
            "home": directory_seal.rights_of(HOMES, login_of(user.name), user.uid), "keys": None, "workspaces": {},
        }  # fmt: skip
        _check_closable(ledger, user)
        databases.check_changeable(ledger.make_room, databases.ACCESS)
        ledger.disable_user(user.name, before)
    with half_done():
        accounts.close_access(user.name)
        directory_seal.seal(HOMES, login_of(user.name), user.uid)
        for name in ledger.workspaces_of(user.name):
            seal_workspace(ledger, user.name, user.uid, (WORKSPACES, name), name)
        schedules.park(user.name, user.uid)
        end_all(ledger, user)
        # Again: what still ran a moment ago may have written a crontab.
        schedules.park(user.name, user.uid)


def enable(ledger: Ledger, user: UserRecord) -> None:
    """Restore what `disable` changed, the way in last; first the account is put right, also of one that is active."""
    before = ledger.before_disabled(user.name) or _closed_before(ledger, user)
    if before is None:
        policy.put_right(policy.wish_of(ledger, user))
        return
    _check_closable(ledger, user)
    wish = policy.wish_of(ledger, user)
    databases.check_changeable(files=databases.ALL if policy.Look().differences(wish) else databases.ACCESS)
    with half_done():
        policy.put_right(wish)
        directory_seal.unseal(HOMES, login_of(user.name), user.uid, directory_seal.Rights(*before["home"]))
        for name, rights in before["workspaces"].items():
            _unseal_workspace(ledger, user, name, directory_seal.Rights(*rights))
        if before["keys"] is not None:
            homes.write_keys(user.name, user.uid, before["keys"])
        schedules.restore(user.name, user.uid)
        accounts.open_access(user.name)
        schedules.restore_linger(user.name, user.uid)
        ledger.enable_user(user.name)


def _check_closable(ledger: Ledger, user: UserRecord) -> None:
    """Raise what keeps a home, a workspace or a schedule from being closed or opened, before anything is."""
    for parent, name in ((HOMES, login_of(user.name)), *((WORKSPACES, one) for one in ledger.workspaces_of(user.name))):
        mounts.refuse_fixed(parent, name)
    schedules.refuse_fixed(user.name, user.uid)


def seal_workspace(ledger: Ledger, user: str, uid: int, place: Tuple[str, str], name: str) -> None:
    """Close a workspace of a disabled user too, wherever it is; what somebody put in its place is left alone.

    A program that the user left set-uid with another login still gives that one the uid. What was written down of a
    workspace stays: one that was cut off has changed its mode already.
    """
    if trees.is_owned_directory(*place, uid):
        before = ledger.before_disabled(user)
        assert before is not None
        known = {name: directory_seal.rights_of(*place, uid), **before["workspaces"]}
        ledger.change_before_disabled(user, {**before, "workspaces": known})
        directory_seal.seal(*place, uid)


def _closed_before(ledger: Ledger, user: UserRecord) -> Optional[Dict[str, Any]]:
    """Return how a user is to be whose account or home is closed, of which the ledger, from a backup, knows nothing."""
    if not accounts.is_expired(user.name) and not policy.is_home_closed(user.name):
        return None
    owned = [name for name in ledger.workspaces_of(user.name)
             if trees.is_owned_directory(WORKSPACES, name, user.uid, or_sealed=True)]  # fmt: skip
    rights = {name: directory_seal.rights_of(WORKSPACES, name, user.uid) for name in owned}
    home = directory_seal.rights_of(HOMES, login_of(user.name), user.uid)
    return {**_as_new(), "home": home, "keys": None, "workspaces": rights}


def _as_new() -> Dict[str, Any]:
    return {"shell": accounts.shell(), "expiry": "", "is_locked": False}


def _unseal_workspace(ledger: Ledger, user: UserRecord, name: str, rights: directory_seal.Rights) -> None:
    is_there = trees.is_owned_directory(WORKSPACES, name, user.uid, or_sealed=True)
    if is_there and name in ledger.workspaces_of(user.name):
        directory_seal.unseal(WORKSPACES, name, user.uid, rights)


def set_keys(ledger: Ledger, user: UserRecord, keys: List[str]) -> None:
    """Write the user's keys; those of a disabled one wait until it is enabled."""
    before: Optional[Dict[str, Any]] = ledger.before_disabled(user.name)
    if before is None:
        homes.write_keys(user.name, user.uid, keys)
    else:
        ledger.change_before_disabled(user.name, {**before, "keys": keys})


def end_all(ledger: Ledger, user: UserRecord) -> None:
    """End every process of the user, its logins, its user manager and the jobs of all its workspaces.

    Processes first: a unit that is asked to stop may take its time over it.
    """
    deadline = time.monotonic() + END_S
    has_units = os.path.exists(f"/run/systemd/users/{user.uid}") or processes.exist(user.uid)
    processes.end_logins(user.name)
    processes.end_all(user.uid)
    if has_units or os.path.exists(f"/run/systemd/users/{user.uid}"):
        stop_units(user.uid)
    while not slots.is_free(user.uid):
        jobs.stop_all(*ledger.workspaces_of(user.name))
        processes.end_all(user.uid)
        if time.monotonic() > deadline:
            raise InUse(f"jobs of user {user.name!r} do not end", hint="try again")
        time.sleep(PAUSE_S)  # a lock of others: there is nothing to wait on with a deadline
    processes.end_all(user.uid)


def stop_units(uid: int) -> None:
    """Stop the user manager and the sessions; systemd knows them by patterns, so none is no error."""
    units = (f"user@{uid}.service", f"user-{uid}.slice", f"user-runtime-dir@{uid}.service")
    known = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--", *units).stdout.split()
    found = [unit for unit in units if unit in known]
    if found:
        run("systemctl", "stop", "--", *found, allowed=(0, 1, 5))
        run("systemctl", "reset-failed", "--", *found, allowed=(0, 1, 5))
