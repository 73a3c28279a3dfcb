"""Make and remove the logins of users and workspaces. A user and a workspace of one name share one."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from contextlib import contextmanager
from typing import Iterable, Iterator, List, Optional

from agent.helper import lost_records
from agent.helper.accounts import (
    accounts,
    databases,
    door_sessions,
    leftovers,
    login_keys,
    login_marks,
    policy,
    processes,
    schedules,
    session_limits,
)  # fmt: skip
from agent.helper.ledger import uid_mark
from agent.helper.ledger.ledger import Ledger, LoginRecord, UserRecord, WorkspaceRecord
from agent.helper.ledger.lock import read_ledger
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.trees import directory_seal, mounts, trees
from agent.shared import sshd_door, uids
from agent.shared.clock import now
from agent.shared.errors import AgentError, InUse, NotFound, NotManaged
from agent.shared.file_lock import open_lock
from agent.shared.names import HOMES, WORKSPACES, home_of, login_of, path_of

SWEEP_LOCK = "/var/lib/codesmith-helper/sweep.lock"


def add(ledger: Ledger, name: str, user: Optional[UserRecord], workspace: Optional[WorkspaceRecord]) -> LoginRecord:
    """Record a user, a workspace or both under a name, all or none, with a new login unless the name has one.

    NotManaged when the node has an account, group or directory of that name that CodeSmith did not make.
    """
    records, login = [one for one in (user, workspace) if one is not None], ledger.login(name)
    if login is None or login.state == "pending":
        databases.check_changeable()
    if login is not None:
        if login.state == "leaving":
            raise InUse(f"{login_of(name)!r} is being deleted", hint="try again")
        if workspace is not None:
            check_no_directory(name)
        ledger.add(*records)
        return login
    if lost_records.made_by_us(accounts.find(name)):
        problem = f"the Unix account {login_of(name)!r} exists, but the helper's ledger has no record of it"
        raise NotManaged(problem, hint=f"restore a newer ledger, or: inv {lost_records.kind_of(name)}.delete {name}")
    accounts.check_free(name)
    if workspace is not None:
        check_no_directory(name)
    within = uids.for_new_users()
    next_uid = uid_mark.next_uid(ledger.next_uid(within), within)
    login = ledger.new_login(name, now(), accounts.first_free(next_uid, within), within)
    login_keys.remove(name)  # of somebody who had this name before
    ledger.add(login, *records)
    return login


def check_no_directory(name: str) -> None:
    """Raise NotManaged when the node has a directory under the name of a workspace that it does not have."""
    for parent, entry, path in ((WORKSPACES, name, path_of(name)), (HOMES, login_of(name), home_of(name))):
        if trees.exists(parent, entry):
            raise NotManaged(f"the directory {path} exists and was not made by CodeSmith")


def ensure(ledger: Ledger, name: str) -> LoginRecord:
    """Make the account of a recorded login, or finish making it, and return its record."""
    login = ledger.login(name)
    assert login is not None
    uid_mark.keep_used(login.uid)
    accounts.ensure(name, login.uid, is_user=_is_user(ledger, name))
    repair(ledger, name)
    return login


def repair(ledger: Ledger, name: str) -> None:
    """Make an account what it should be: open for the node's sshd if an active user has a key to it, else closed."""
    policy.repair(name, login_marks.USER if _is_user(ledger, name) else login_marks.CLOSED)


def _is_user(ledger: Ledger, name: str) -> bool:
    user = ledger.user(name)
    return user is not None and user.state != "disabled"


def close(name: str, uid: int) -> None:
    """Close the account of a workspace that is somebody else's for the node's sshd, and end its sessions there."""
    login_marks.write(uid, login_marks.CLOSED)
    login_keys.remove(name)
    accounts.close_access(name)
    session_limits.remove(uid)
    door_sessions.end(name, uid, spares_runtime=True)


def put_keys(ledger: Ledger, name: str, keys: List[str]) -> None:
    """Replace the keys of a user's login; its account opens with the first one and closes before the last one goes.

    Where the account databases must be changed and cannot be, nothing is.
    """
    is_closed = accounts.is_expired(name)
    if keys:
        if is_closed and sshd_door.is_open():
            databases.check_changeable()
        login_keys.write(name, keys)
        if is_closed:
            with pending_on_error():
                repair(ledger, name)
        return
    if not is_closed:
        databases.check_changeable(ledger.free_reserve, databases.ACCESS)
    with pending_on_error():
        if not is_closed:
            accounts.close_access(name)
        login_keys.remove(name)


@contextmanager
def undone_on_error(ledger: Ledger, name: str) -> Iterator[None]:
    """Remove all that is pending of a name (its workspace, its user, its login) when it cannot be made."""
    try:
        yield
    except (AgentError, OSError):
        _undo(ledger, name)
        raise


def _undo(ledger: Ledger, name: str) -> None:
    login, workspace = ledger.login(name), ledger.workspace(name)
    if login is None:
        return
    with pending_on_error():
        if workspace is not None and workspace.state == "pending":
            for parent, entry in ((WORKSPACES, name), (HOMES, login_of(name))):
                if trees.is_owned_directory(parent, entry, login.uid):
                    trees.remove(parent, entry)
        if login.state == "pending":
            _remove_account(name, login.uid)
        ledger.drop_pending(name)


def check_account(ledger: Ledger, name: str) -> LoginRecord:
    """Return the record of a login whose account is there and CodeSmith's; NotFound, InUse or NotManaged otherwise."""
    login = ledger.login(name)
    if login is None:
        raise NotFound(f"{name!r} has no login on this node")
    check_settled(login.state, repr(login_of(name)))
    if accounts.check_ours(name, login.uid) is None:
        raise NotManaged(f"the Unix account {login_of(name)!r} is gone", hint="inv node.health")
    accounts.check_unshared(name, login.uid)
    return login


def check_settled(state: str, what: str) -> None:
    """Raise InUse while a login or workspace is being made or deleted."""
    if state != "active":
        raise InUse(f"{what} is being made or deleted", hint="try again")


def check_ours(ledger: Ledger, names: Iterable[str]) -> None:
    """Raise NotManaged when the account of a login is not CodeSmith's, or its uid another one's too; it may be gone."""
    for login in filter(None, map(ledger.login, names)):
        accounts.check_ours(login.name, login.uid)
        accounts.check_unshared(login.name, login.uid)


def check_removable(login: LoginRecord, *, with_account: bool) -> None:
    """Raise NotManaged, InUse or CommandFailed if a login cannot be removed, before anything is."""
    name = login.name
    for parent, entry in ((WORKSPACES, name), (HOMES, login_of(name))):
        mounts.refuse(parent, entry)
        if trees.exists(parent, entry):
            directory_seal.check_ours(parent, entry, login.uid)
    if with_account:
        accounts.check_ours(name, login.uid)
        accounts.check_unshared(name, login.uid)
        databases.check_lock()


def shut_out(ledger: Ledger, login: LoginRecord) -> None:
    """Let nobody in any more as a login that is removed, and end its sessions: the first step, whatever fails later."""
    ledger.mark_leaving(login.name)
    login_keys.remove(login.name)
    door_sessions.end(login.name, login.uid)


def remove(ledger: Ledger, login: LoginRecord, *, with_account: bool) -> List[str]:
    """End the processes of a login and remove all its files, wherever they are; return the paths that stay.

    Then remove the account too, which was shut out, unless it is still that of a user. The records stay until the
    caller removes them.
    """
    processes.end_all(login.uid)
    for parent, entry in ((WORKSPACES, login.name), (HOMES, login_of(login.name))):
        trees.remove(parent, entry)
    left, is_unfinished = leftovers.sweep(login.uid, leftovers.LIMIT_S)
    left = [*schedules.remove(login.name, login.uid), *left]
    processes.end_all(login.uid)
    if with_account:
        databases.check_changeable(ledger.free_reserve)
        if is_unfinished:
            ledger.add_sweep(login.uid)
        left += _remove_account(login.name, login.uid)
    return left


def _remove_account(name: str, uid: int) -> List[str]:
    """Remove an account and what root has for it; return the paths that stay, because they are not ours."""
    login_keys.remove(name)
    accounts.remove(name, uid)
    left = session_limits.remove(uid)
    login_marks.remove(uid)
    return left


def finish_sweeps() -> None:
    """Finish the searches for leftovers of removed logins that took too long; one process at a time.

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
