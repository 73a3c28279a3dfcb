"""Disable and enable users; a deletion begins with the same steps."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional, Tuple

from agent.helper.accounts import accounts, databases, homes, policy, processes, schedules
from agent.helper.ledger.ledger import Ledger, UserRecord
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.runtime import jobs, slots
from agent.helper.trees import directory_seal, mounts, trees
from agent.shared.errors import InUse
from agent.shared.names import HOMES, WORKSPACES, login_of
from agent.shared.run import run

END_S = 30.0
PAUSE_S = 0.02


def disable(ledger: Ledger, user: UserRecord) -> None:
    """Block all access, park schedules, kill everything that runs. A second call completes the first.

    The user's state is stored before the first change; jobs are refused from then on.
    """
    if ledger.before_disabled(user.name) is None:
        # Nothing about the account is stored: it is opened as a new one. (Older releases read the fields of _as_new.)
        before = _closed_before(ledger, user) or {
            **_as_new(),
            "home": directory_seal.rights_of(HOMES, login_of(user.name), user.uid), "keys": None, "workspaces": {},
        }  # fmt: skip
        _check_closable(ledger, user)
        databases.check_changeable(ledger.free_reserve, databases.ACCESS)
        ledger.disable_user(user.name, before)
    with pending_on_error():
        accounts.close_access(user.name)
        directory_seal.seal(HOMES, login_of(user.name), user.uid)
        for name in ledger.workspaces_of(user.name):
            seal_workspace(ledger, user.name, user.uid, (WORKSPACES, name), name)
        schedules.park(user.name, user.uid)
        end_all(ledger, user)
        # Again: a process that was just killed may have written a crontab.
        schedules.park(user.name, user.uid)


def enable(ledger: Ledger, user: UserRecord) -> None:
    """Restore what `disable` changed, access last; repair the account first, also that of an active user."""
    before = ledger.before_disabled(user.name) or _closed_before(ledger, user)
    if before is None:
        policy.repair(policy.expected_of(ledger, user))
        return
    _check_closable(ledger, user)
    expected = policy.expected_of(ledger, user)
    has_drift = bool(policy.Accounts().differences(expected))
    databases.check_changeable(files=databases.ALL if has_drift else databases.ACCESS)
    with pending_on_error():
        policy.repair(expected)
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
    """Raise CommandFailed when a home, workspace or schedule is immutable or read-only, before anything changes."""
    for parent, name in ((HOMES, login_of(user.name)), *((WORKSPACES, one) for one in ledger.workspaces_of(user.name))):
        mounts.refuse_immutable(parent, name)
    schedules.refuse_immutable(user.name, user.uid)


def seal_workspace(ledger: Ledger, user: str, uid: int, place: Tuple[str, str], name: str) -> None:
    """Seal a workspace of a disabled user, in `place`; a directory of another owner there is left alone.

    A set-uid program that the user left with another login still runs with the user's uid, so the workspaces are
    sealed, not the home alone. Rights that are stored already are kept: an interrupted run has changed the mode.
    """
    if trees.is_owned_directory(*place, uid):
        before = ledger.before_disabled(user)
        assert before is not None
        known = {name: directory_seal.rights_of(*place, uid), **before["workspaces"]}
        ledger.change_before_disabled(user, {**before, "workspaces": known})
        directory_seal.seal(*place, uid)


def _closed_before(ledger: Ledger, user: UserRecord) -> Optional[Dict[str, Any]]:
    """Return the state to restore for a user whose account or home is closed although the ledger says active."""
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
    """Write the user's keys; store those of a disabled user until it is enabled."""
    before: Optional[Dict[str, Any]] = ledger.before_disabled(user.name)
    if before is None:
        homes.write_keys(user.name, user.uid, keys)
    else:
        ledger.change_before_disabled(user.name, {**before, "keys": keys})


def end_all(ledger: Ledger, user: UserRecord) -> None:
    """Kill every process of the user, its logins, its user manager and the jobs of all its workspaces.

    Processes come first: a unit may take long to stop. InUse when jobs or processes survive.
    """
    deadline = time.monotonic() + END_S
    has_units = os.path.exists(f"/run/systemd/users/{user.uid}") or processes.exist(user.uid)
    processes.end_logins(user.name)
    processes.end_all(user.uid)
    if has_units or os.path.exists(f"/run/systemd/users/{user.uid}"):
        stop_units(user.uid)
    while not slots.is_idle(user.uid):
        jobs.stop_all(*ledger.workspaces_of(user.name))
        processes.end_all(user.uid)
        if time.monotonic() > deadline:
            raise InUse(f"jobs of user {user.name!r} do not end", hint="try again")
        time.sleep(PAUSE_S)  # the locks are held by other processes, and lockf has no timeout
    processes.end_all(user.uid)


def stop_units(uid: int) -> None:
    """Stop the user manager and the sessions of a uid, if systemd has any."""
    units = (f"user@{uid}.service", f"user-{uid}.slice", f"user-runtime-dir@{uid}.service")
    known = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--", *units).stdout.split()
    present = [unit for unit in units if unit in known]
    if present:
        run("systemctl", "stop", "--", *present, allowed=(0, 1, 5))
        run("systemctl", "reset-failed", "--", *present, allowed=(0, 1, 5))
