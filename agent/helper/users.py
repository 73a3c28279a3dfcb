"""Verbs about users: create, disable, enable, repair and remove them, and set their keys."""

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
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.trees import directory_seal, mounts, trash, trees
from agent.shared import sshd, sshkeys, uids
from agent.shared.clock import now
from agent.shared.errors import AgentError, CommandFailed, Disabled, InUse, InvalidParams, NotFound, NotManaged
from agent.shared.file_lock import open_lock
from agent.shared.names import HOMES, home_of, login_of, parse_name

SWEEP_LOCK = "/var/lib/codesmith-helper/sweep.lock"


def ensure_user(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Make the account and home of a user, or finish making them; the second call only sets the keys."""
    name, keys = parse_name(name), parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        account = make_user(ledger, name, keys)
    return {**account, "warnings": login_warnings(name)}


def login_warnings(name: str) -> List[str]:
    """Return why a user cannot log in with its keys, according to sshd's configuration; [] when it can."""
    status, detail, fix = sshd.check(login_of(name))
    return [f"{detail}; on the node: {fix}"] if status == sshd.WARN else []


def set_keys(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Write the keys of a user, with the user's rights; those of a disabled user are stored until it is enabled."""
    name, keys = parse_name(name), parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        suspension.set_keys(ledger, _managed_user(ledger, name), keys)
    return {}


def disable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Block a user's logins and schedules and kill its processes and jobs; it stays so until it is enabled."""
    name = parse_name(name)
    with exclusive_ledger(frees_space=True) as ledger:
        suspension.disable(ledger, _managed_user(ledger, name, with_workspaces=True))
    return {}


def enable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Restore what `disable_user` changed; repair the account of an active user."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        suspension.enable(ledger, _managed_user(ledger, name, with_workspaces=True))
    return {}


def read_drift(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Return by user how accounts differ from what they should be: that of `name`, or all when it is null."""
    with read_ledger() as ledger:
        node, records = policy.Accounts(), _stable_users(ledger, name)
        return {"drift": {one.name: node.differences(policy.expected_of(ledger, one)) for one in records}}


def put_right(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Repair the account of a user, or all when `name` is null; an account without drift is not changed.

    A user whose record the ledger has lost gets it back. Of all, each is tried, and the first error is raised.
    """
    refusals: List[AgentError] = []
    with exclusive_ledger() as ledger:
        if name is not None:
            _repair(ledger, _managed_user(ledger, parse_name(name)))
        for record in _stable_users(ledger, None) if name is None else ():
            try:
                if accounts.check_ours(record.name, record.uid) is not None:
                    accounts.check_unshared(record.name, record.uid)
                    _repair(ledger, record)
            except (CommandFailed, NotManaged) as refusal:
                refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return {}


def _repair(ledger: Ledger, record: UserRecord) -> None:
    if record.state == "disabled" and not policy.is_home_closed(record.name):
        suspension.disable(ledger, record)  # its closing was cut off, or undone by hand
    policy.repair(policy.expected_of(ledger, record))


def remove_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Kill the user's processes, then remove account and home; InUse while it owns workspaces."""
    name = parse_name(name)
    with exclusive_ledger(frees_space=True) as ledger:
        record = lost_records.restore_user(ledger, name)
        if record is not None:
            lost_records.restore_workspaces(ledger, record)
        owned = ledger.workspaces_of(name)
        if owned:
            raise InUse(f"user {name!r} owns workspaces: {', '.join(owned)}", hint=f"inv workspace.delete {owned[0]}")
        check_removable(ledger, name)
        databases.check_changeable(ledger.free_reserve)
        with pending_on_error():
            left = remove_account(ledger, name)
            ledger.remove_user(name)
    return {"leftovers": [*left, *trash.empty()]}


def make_user(ledger: Ledger, name: str, keys: List[str]) -> Dict[str, Any]:
    """Make account and home of a user, or finish making them, and return the account; after an error nothing stays."""
    record = ledger.user(name)
    if record is not None and record.state != "pending" and lost_records.forget_stale_user(ledger, record):
        record = None
    if record is None or record.state == "pending":
        databases.check_changeable()
    if record is None:
        record = _add_user(ledger, name)
    elif record.state == "leaving":
        raise InUse(f"user {name!r} is being deleted", hint="try again")
    elif record.state == "disabled":
        raise Disabled.user(name)
    try:
        _make_account(ledger, record, keys)
    except (CommandFailed, NotManaged, OSError):
        if record.state == "pending":
            undo_user(ledger, record)
        raise
    if record.state != "active":
        ledger.mark_user(name, "active")
    account = accounts.check_ours(name, record.uid)
    assert account is not None
    uid = record.uid
    return {"login": login_of(name), "uid": uid, "gid": uid, "home": account.pw_dir, "shell": account.pw_shell}


def _add_user(ledger: Ledger, name: str) -> UserRecord:
    """Record a pending user with the next free uid; NotManaged when the node has an account or home of that name."""
    if lost_records.made_by_us(accounts.find(name)):
        problem = f"the Unix account {login_of(name)!r} exists, but the helper's ledger has no record of it"
        raise NotManaged(problem, hint=f"restore a newer ledger, or: inv user.delete {name}")
    accounts.check_free(name)
    if trees.exists(HOMES, login_of(name)):
        raise NotManaged(f"the directory {home_of(name)} exists and was not made by CodeSmith")
    within = uids.for_new_users()
    next_uid = uid_mark.next_uid(ledger.next_uid(within), within)
    return ledger.add_user(name, now(), accounts.first_free(next_uid, within), within)


def _make_account(ledger: Ledger, record: UserRecord, keys: List[str]) -> None:
    """Make what is missing of account and home, and write the keys."""
    uid_mark.keep_used(record.uid)
    accounts.ensure(record.name, record.uid)
    policy.repair(policy.expected_of(ledger, record))
    if not trees.is_owned_directory(HOMES, login_of(record.name), record.uid):
        trees.make(HOMES, login_of(record.name), record.uid, 0o700, _home_entries(keys))
    elif record.state == "active":  # the front end has lost its record (a restored backup): the keys of this call count
        homes.write_keys(record.name, record.uid, keys)


def check_removable(ledger: Ledger, name: str) -> None:
    """Raise NotManaged, InUse or CommandFailed if a user cannot be removed, before anything is."""
    record = ledger.user(name)
    if record is not None:
        accounts.check_ours(name, record.uid)
        accounts.check_unshared(name, record.uid)
        mounts.refuse(HOMES, login_of(name))
        if trees.exists(HOMES, login_of(name)):
            directory_seal.check_ours(HOMES, login_of(name), record.uid)


def remove_account(ledger: Ledger, name: str) -> List[str]:
    """Remove account, home and leftovers of a user in the ledger; return the paths that stay.

    Its record stays, marked leaving, until the caller removes it.
    """
    record = ledger.user(name)
    if record is None:
        return []
    if accounts.check_ours(name, record.uid) is not None and trees.exists(HOMES, login_of(name)):
        directory_seal.seal(HOMES, login_of(name), record.uid)  # so that nobody logs in during the removal
    ledger.mark_user(name, "leaving")
    schedules.remove(name, record.uid)
    suspension.end_all(ledger, record)
    left, is_unfinished = leftovers.sweep(record.uid, leftovers.LIMIT_S)
    if is_unfinished:
        ledger.add_sweep(record.uid)
    left = [*schedules.remove(name, record.uid), *left]
    processes.end_all(record.uid)
    accounts.remove(name, record.uid)
    trees.remove(HOMES, login_of(name))
    return left


def finish_sweeps() -> None:
    """Finish the searches for leftovers of deleted users that took too long; one process at a time.

    It may run at any time later, because no uid is given out twice.
    """
    descriptor = -1
    try:
        descriptor = open_lock(SWEEP_LOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with read_ledger() as ledger:
            while uids := ledger.sweeps():
                for problem in leftovers.sweep(uids[0], leftovers.AFTER_REPLY_S)[0]:
                    print(f"left by uid {uids[0]}: {problem}", file=sys.stderr, flush=True)
                ledger.end_sweep(uids[0])
    except BlockingIOError:
        pass  # another process does it
    except (AgentError, OSError, sqlite3.Error) as error:
        print(f"shared directories cannot be searched: {error}", file=sys.stderr, flush=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _stable_users(ledger: Ledger, name: Any) -> List[UserRecord]:
    """Return the record of a user, or of all, without those that are being made or deleted."""
    records = ledger.users() if name is None else [ledger.user(parse_name(name))]
    return [one for one in records if one is not None and one.state in ("active", "disabled")]


def _managed_user(ledger: Ledger, name: str, *, with_workspaces: bool = False) -> UserRecord:
    """Return the record of a user whose account exists and is CodeSmith's; NotFound, InUse or NotManaged otherwise."""
    record = lost_records.restore_user(ledger, name)
    if record is None:
        raise NotFound(f"no user {name!r} on this node")
    if record.state not in ("active", "disabled"):
        raise InUse(f"user {name!r} is being made or deleted", hint="try again")
    if accounts.check_ours(name, record.uid) is None:
        raise NotManaged(f"the Unix account {login_of(name)!r} is gone", hint="inv node.health")
    accounts.check_unshared(name, record.uid)
    if with_workspaces:
        lost_records.restore_workspaces(ledger, record)
    return record


def undo_user(ledger: Ledger, record: UserRecord) -> None:
    """Remove all of a user that could not be made, and its record."""
    with pending_on_error():
        accounts.remove(record.name, record.uid)
        if trees.is_owned_directory(HOMES, login_of(record.name), record.uid):
            trees.remove(HOMES, login_of(record.name))
        ledger.remove_user(record.name)


def parse_keys(value: Any) -> List[str]:
    """Return public keys in canonical form; InvalidParams for anything else."""
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise InvalidParams.of("ssh_keys", "must be strings")
    return sshkeys.parse_keys(value)


def _home_entries(keys: List[str]) -> List[trees.Entry]:
    return [trees.Entry(".ssh", 0o700), trees.Entry(".ssh/authorized_keys", 0o600, homes.keys_text(keys))]
