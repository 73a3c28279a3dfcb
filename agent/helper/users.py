"""Verbs about users: the account, its home and keys, closed out and let in again, gone without a trace."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import sys
from typing import Any, Dict, List

from agent.helper import lost_records, suspension
from agent.helper.accounts import accounts, databases, homes, leftovers, policy, processes, schedules
from agent.helper.ledger import uid_mark
from agent.helper.ledger.ledger import Ledger, UserRecord
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.refusals import half_done
from agent.helper.trees import directory_seal, mounts, trash, trees
from agent.shared import sshd, sshkeys, uids
from agent.shared.clock import now
from agent.shared.errors import AgentError, CommandFailed, Disabled, InUse, InvalidParams, NotFound, NotManaged
from agent.shared.file_lock import open_lock
from agent.shared.names import HOMES, home_of, login_of, parse_name

SWEEP_LOCK = "/var/lib/codesmith-helper/sweep.lock"


def ensure_user(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Make the account and home of a user, or finish making them."""
    name, keys = parse_name(name), parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        account = make_user(ledger, name, keys)
    return {**account, "warnings": login_warnings(name)}


def login_warnings(name: str) -> List[str]:
    """Return what keeps a user's keys from letting it in, as sshd tells."""
    status, detail, fix = sshd.check(login_of(name))
    return [f"{detail}; on the node: {fix}"] if status == sshd.WARN else []


def set_keys(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Write the keys of a user, as the user."""
    name, keys = parse_name(name), parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        suspension.set_keys(ledger, _our_user(ledger, name), keys)
    return {}


def disable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Close a user out: logins, schedules, processes and jobs; it stays so until it is enabled."""
    name = parse_name(name)
    with exclusive_ledger(makes_room=True) as ledger:
        suspension.disable(ledger, _our_user(ledger, name, with_workspaces=True))
    return {}


def enable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Let a disabled user in again, as it was."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        suspension.enable(ledger, _our_user(ledger, name, with_workspaces=True))
    return {}


def read_drift(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Say how accounts differ from what they should be, by user: that of `name`, or all when it is null."""
    with read_ledger() as ledger:
        look = policy.Look()
        return {"drift": {one.name: look.differences(policy.wish_of(ledger, one)) for one in _settled(ledger, name)}}


def put_right(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Put the account of a user right, or those of all when `name` is null; what is right stays untouched.

    One whose record the ledger has lost gets it back. Of all, each is tried, and the first refusal is told.
    """
    refusals: List[AgentError] = []
    with exclusive_ledger() as ledger:
        if name is not None:
            _put_right(ledger, _our_user(ledger, parse_name(name)))
        for record in _settled(ledger, None) if name is None else ():
            try:
                if accounts.check_ours(record.name, record.uid) is not None:
                    accounts.check_sole(record.name, record.uid)
                    _put_right(ledger, record)
            except (CommandFailed, NotManaged) as refusal:
                refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return {}


def _put_right(ledger: Ledger, record: UserRecord) -> None:
    if record.state == "disabled" and not policy.is_home_closed(record.name):
        suspension.disable(ledger, record)  # its closing was cut off, or undone by hand
    policy.put_right(policy.wish_of(ledger, record))


def remove_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """End the user's processes, then remove account and home; in_use while it owns workspaces."""
    name = parse_name(name)
    with exclusive_ledger(makes_room=True) as ledger:
        record = lost_records.restore_user(ledger, name)
        if record is not None:
            lost_records.restore_workspaces(ledger, record)
        owned = ledger.workspaces_of(name)
        if owned:
            raise InUse(f"user {name!r} owns workspaces: {', '.join(owned)}", hint=f"inv workspace.delete {owned[0]}")
        check_removable(ledger, name)
        databases.check_changeable(ledger.make_room)
        with half_done():
            left = remove_account(ledger, name)
            ledger.remove_user(name)
    return {"leftovers": [*left, *trash.empty()]}


def make_user(ledger: Ledger, name: str, keys: List[str]) -> Dict[str, Any]:
    """Make account and home of a user, or finish making them; nothing half-done stays when it fails."""
    record = ledger.user(name)
    if record is not None and record.state != "pending" and lost_records.forget_stale_user(ledger, record):
        record = None
    if record is None or record.state == "pending":
        databases.check_changeable()
    if record is None:
        if lost_records.made_by_us(accounts.find(name)):
            problem = f"the Unix account {login_of(name)!r} exists, and the helper's ledger does not know it any more"
            raise NotManaged(problem, hint=f"restore a newer ledger, or: inv user.delete {name}")
        accounts.check_free(name)
        if trees.exists(HOMES, login_of(name)):
            raise NotManaged(f"the directory {home_of(name)} exists and was not made by CodeSmith")
        within = uids.for_new_users()
        next_uid = uid_mark.next_uid(ledger.next_uid(within), within)
        record = ledger.add_user(name, now(), accounts.first_free(next_uid, within), within)
    elif record.state == "leaving":
        raise InUse(f"user {name!r} is being deleted", hint="try again")
    elif record.state == "disabled":
        raise Disabled.user(name)
    try:
        uid_mark.keep_used(record.uid)
        accounts.ensure(name, record.uid)
        policy.put_right(policy.wish_of(ledger, record))
        if not trees.is_owned_directory(HOMES, login_of(name), record.uid):
            trees.make(HOMES, login_of(name), record.uid, 0o700, _home_entries(keys))
        elif record.state == "active":  # asked for by a front end that has forgotten it: what it was told then is over
            homes.write_keys(name, record.uid, keys)
    except (CommandFailed, NotManaged, OSError):
        if record.state == "pending":
            undo_user(ledger, record)
        raise
    if record.state != "active":
        ledger.mark_user(name, "active")
    found = accounts.check_ours(name, record.uid)
    assert found is not None
    uid = record.uid
    return {"login": login_of(name), "uid": uid, "gid": uid, "home": found.pw_dir, "shell": found.pw_shell}


def check_removable(ledger: Ledger, name: str) -> None:
    """Raise what stands in the way of removing a user, before anything is removed: what is not ours."""
    record = ledger.user(name)
    if record is not None:
        accounts.check_ours(name, record.uid)
        accounts.check_sole(name, record.uid)
        mounts.refuse(HOMES, login_of(name))
        if trees.exists(HOMES, login_of(name)):
            directory_seal.check_ours(HOMES, login_of(name), record.uid)


def remove_account(ledger: Ledger, name: str) -> List[str]:
    """Remove account and home of a user that is in the ledger, and what it left elsewhere; return what stays.

    Its record stays, marked leaving.
    """
    record = ledger.user(name)
    if record is None:
        return []
    if accounts.check_ours(name, record.uid) is not None and trees.exists(HOMES, login_of(name)):
        directory_seal.seal(HOMES, login_of(name), record.uid)  # nobody logs in any more while it is being removed
    ledger.mark_user(name, "leaving")
    schedules.remove(name, record.uid)
    suspension.end_all(ledger, record)
    left, is_late = leftovers.sweep(record.uid, leftovers.LIMIT_S)
    if is_late:
        ledger.keep_sweeping(record.uid)
    left = [*schedules.remove(name, record.uid), *left]
    processes.end_all(record.uid)
    accounts.remove(name, record.uid)
    trees.remove(HOMES, login_of(name))
    return left


def sweep_on() -> None:
    """Search on for what deleted users left, where that takes long: no uid comes back. One process at a time."""
    descriptor = -1
    try:
        descriptor = open_lock(SWEEP_LOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with read_ledger() as ledger:
            while uids := ledger.sweeps():
                for problem in leftovers.sweep(uids[0], leftovers.LATER_S)[0]:
                    print(f"left by uid {uids[0]}: {problem}", file=sys.stderr, flush=True)
                ledger.end_sweep(uids[0])
    except BlockingIOError:
        pass  # another process is at it
    except (AgentError, OSError, sqlite3.Error) as error:
        print(f"shared places cannot be searched: {error}", file=sys.stderr, flush=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _settled(ledger: Ledger, name: Any) -> List[UserRecord]:
    """Return the record of a user, or all, without those that are being made or deleted."""
    found = ledger.users() if name is None else [ledger.user(parse_name(name))]
    return [one for one in found if one is not None and one.state in ("active", "disabled")]


def _our_user(ledger: Ledger, name: str, *, with_workspaces: bool = False) -> UserRecord:
    """Return the record of a user whose account is there and is the one we made."""
    record = lost_records.restore_user(ledger, name)
    if record is None:
        raise NotFound(f"no user {name!r} on this node")
    if record.state not in ("active", "disabled"):
        raise InUse(f"user {name!r} is being made or deleted", hint="try again")
    if accounts.check_ours(name, record.uid) is None:
        raise NotManaged(f"the Unix account {login_of(name)!r} is gone", hint="inv node.health")
    accounts.check_sole(name, record.uid)
    if with_workspaces:
        lost_records.restore_workspaces(ledger, record)
    return record


def undo_user(ledger: Ledger, record: UserRecord) -> None:
    """Take back a user that could not be made: nothing half-done stays, the record neither."""
    with half_done():
        accounts.remove(record.name, record.uid)
        if trees.is_owned_directory(HOMES, login_of(record.name), record.uid):
            trees.remove(HOMES, login_of(record.name))
        ledger.remove_user(record.name)


def parse_keys(value: Any) -> List[str]:
    """Return public keys in canonical form; InvalidParams otherwise."""
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise InvalidParams.of("ssh_keys", "must be strings")
    return sshkeys.parse_keys(value)


def _home_entries(keys: List[str]) -> List[trees.Entry]:
    return [trees.Entry(".ssh", 0o700), trees.Entry(".ssh/authorized_keys", 0o600, homes.keys_text(keys))]
