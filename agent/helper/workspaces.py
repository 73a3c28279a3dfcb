"""Verbs about workspaces: create, assign and remove them, and run jobs in them."""

from __future__ import annotations

import json
import os
import socket
import uuid
from typing import Any, Dict, FrozenSet, List, Tuple

from agent.helper import lost_records, suspension, users
from agent.helper.accounts import accounts, databases, processes
from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.helper.ledger.lock import exclusive_ledger
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.runtime import jobs, output, sandboxes
from agent.helper.runtime.entry import enter
from agent.helper.trees import handover, mounts, trash, trees
from agent.shared.clock import now
from agent.shared.errors import AgentError, Disabled, InUse, InvalidParams, NotFound, NotManaged
from agent.shared.names import STAGING, WORKSPACES, login_of, parse_name, path_of

FOLDERS = ("code", "config", "data", "logs", "tmp")
AGENTS_MD = """\
# Workspace {name}

You work on node `{node}` as the Unix user `{login}`, in `{path}`.

- Code belongs in `code/`, settings in `config/`, data in `data/`, logs in `logs/`; `tmp/` may be emptied at any time.
- You may do here what `{login}` may do. Other workspaces, other homes and the system are closed to you.
- There is no sudo. Ask the operator when something must be installed.
- Facts about this workspace for programs: `.codesmith/workspace.json` (a copy; changing it changes nothing).
"""


def ensure_workspace(caller: socket.socket, name: Any, user: Any, dedicated: Any) -> Dict[str, Any]:
    """Make the directory of a workspace for an active user, complete or not at all; or return the one it made.

    `dedicated` is null, or {ssh_keys} to make the user too: one verb, one lock, for the usual case.
    """
    name, user = parse_name(name), parse_name(user, "user")
    if dedicated is not None and (not isinstance(dedicated, dict) or set(dedicated) != {"ssh_keys"}):
        raise InvalidParams.of("dedicated", "must be null or ssh_keys")
    keys = users.parse_keys(dedicated["ssh_keys"]) if dedicated else []
    with exclusive_ledger() as ledger:
        if ledger.workspace(name) is None and trees.exists(WORKSPACES, name):
            raise NotManaged(f"the directory {path_of(name)} exists and was not made by CodeSmith")
        before = ledger.user(user)
        account = users.make_user(ledger, user, keys) if dedicated else None
        try:
            made = {**_ensure_workspace(ledger, name, user), "account": account}
        except (AgentError, OSError):
            _undo_workspace(ledger, name)
            maker = ledger.user(user)
            if maker is not None and (before is None or before.state == "pending"):
                users.undo_user(ledger, maker)
            raise
    return {**made, "warnings": users.login_warnings(user)}


def assign_workspace(caller: socket.socket, name: Any, user: Any) -> Dict[str, Any]:
    """Transfer a workspace to another active user; the previous one loses all access.

    The ledger is not locked while the tree changes, so other changes go on. After an interruption or an error the tree
    stays in root's staging, marked moving, and the error has data.pending. The next call completes it, also one that
    names another user.
    """
    name, user = parse_name(name), parse_name(user, "user")
    with handover.lock_tree(name):
        with exclusive_ledger() as ledger:
            record, change = _begin_assignment(ledger, name, user)
        if not change.old_uids:
            return _describe(record, change.uid)
        with pending_on_error():
            _transfer_tree(record, change)
            with exclusive_ledger(frees_space=True) as ledger:
                if ledger.before_disabled(user) is not None:  # disabled since the assignment began
                    suspension.seal_workspace(ledger, user, change.uid, (STAGING, trees.moving_name(name)), name)
                handover.put_back(WORKSPACES, name)
                ledger.end_assignment(name, user)
        return _describe(record, change.uid)


def _begin_assignment(ledger: Ledger, name: str, user: str) -> Tuple[WorkspaceRecord, handover.Change]:
    """Mark a workspace as moving; return its future record, and the change. No old uids: the user owns it already."""
    record = ledger.workspace(name)
    if record is None:
        raise NotFound(f"no workspace {name!r} on this node")
    if record.state not in ("active", "moving"):
        raise InUse(f"workspace {name!r} is being made or deleted", hint="try again")
    for place in handover.places_of(name):
        mounts.refuse(*place)
    is_begun = record.state == "moving" and ledger.assignment(name) == user
    uid, old_uids = _uid_of_assignee(ledger, user, or_disabled=is_begun), _uids_of_owners(ledger, record)
    if record.state == "active":
        if record.user == user:
            return record, handover.Change(frozenset(), uid)
        _check_directory(name, _owners(ledger, record))
        ledger.begin_assignment(name, user)
    elif not is_begun:
        ledger.begin_assignment(name, user)
    return record._replace(user=user), handover.Change(old_uids, uid)


def remove_workspace(caller: socket.socket, name: Any, remove_user: Any) -> Dict[str, Any]:
    """Stop the workspace's jobs and remove its directory.

    `remove_user` removes the user too if it has the workspace's name and owns no other. `user_removed` in the answer
    tells whether the user is gone.
    """
    name = parse_name(name)
    if not isinstance(remove_user, bool):
        raise InvalidParams.of("remove_user", "must be true or false")
    with handover.lock_tree(name), exclusive_ledger(frees_space=True) as ledger:
        record = lost_records.restore_workspace(ledger, name)
        if record is None:
            is_user_gone = ledger.user(name) is None and not lost_records.traces_of(name)
            return {"leftovers": [], "user_removed": remove_user and is_user_gone}
        if trees.exists(WORKSPACES, name):
            _check_directory(name, _owners(ledger, record))
        is_last = remove_user and _is_dedicated_user(ledger, record)
        for place in handover.places_of(name):
            mounts.refuse(*place)
        if is_last:
            users.check_removable(ledger, record.user)
            databases.check_lock()
        left: List[str] = []
        with pending_on_error():
            ledger.mark_workspace(name, "leaving")
            jobs.stop_all(name)
            for place in handover.places_of(name):
                trees.remove(*place)
            if is_last:
                databases.check_changeable(ledger.free_reserve)
                left = users.remove_account(ledger, record.user)
            ledger.remove_workspace(name, and_user=record.user if is_last else None)
    return {"leftovers": [*left, *trash.empty()], "user_removed": is_last}


def run_job(
    caller: socket.socket, workspace: Any, argv: Any, cwd: Any, env: Any, stdin: Any, encoding: Any, timeout_s: Any
) -> Dict[str, Any]:
    """Run a command as the login of a workspace and return an Execution."""
    workspace = parse_name(workspace, "workspace")
    encoding = output.parse_encoding(encoding)
    data = output.parse_input(stdin, encoding)
    problem = jobs.check_job(argv, cwd, env, timeout_s)
    if problem:
        raise InvalidParams.of(problem.split(" ", 1)[0], problem.split(" ", 1)[1])
    with enter(workspace) as entry, entry.exclude_clones():
        return jobs.run_job(
            entry, argv=argv, cwd=cwd, env=env, stdin=data, encoding=encoding,
            timeout_s=sandboxes.runtime_s(entry.sandbox, timeout_s), caller=caller,
        )  # fmt: skip


def _ensure_workspace(ledger: Ledger, name: str, user: str) -> Dict[str, Any]:
    """Make the workspace of an active user, or finish making it; NotFound, Disabled or InUse otherwise."""
    owner = ledger.user(user)
    if owner is not None and owner.state == "disabled":
        raise Disabled.user(user)
    if owner is None or owner.state != "active" or accounts.check_ours(user, owner.uid) is None:
        raise NotFound(f"no active user {user!r} on this node")
    record = ledger.workspace(name)
    if record is None:
        record = WorkspaceRecord(name, user, str(uuid.uuid4()), "pending", now())
        ledger.add_workspace(record)
    elif record.user != user or record.state in ("leaving", "moving"):
        raise InUse(f"workspace {name!r} belongs to user {record.user!r}, or is being assigned or deleted")
    if not trees.is_owned_directory(WORKSPACES, name, owner.uid):
        trees.make(WORKSPACES, name, owner.uid, 0o700, _workspace_entries(record, owner.uid))
    ledger.mark_workspace(name, "active")
    return _describe(record, owner.uid)


def _undo_workspace(ledger: Ledger, name: str) -> None:
    """Remove all of a workspace that could not be made, and its record."""
    record = ledger.workspace(name)
    if record is not None and record.state == "pending":
        with pending_on_error():
            trees.remove(WORKSPACES, name)
            ledger.remove_workspace(name)


def _uid_of_assignee(ledger: Ledger, user: str, *, or_disabled: bool) -> int:
    """Return the uid of the user that a workspace is assigned to; it must be active, unless `or_disabled`."""
    assignee = ledger.user(user)
    if assignee is None or assignee.state in ("pending", "leaving") or accounts.check_ours(user, assignee.uid) is None:
        raise NotFound(f"no user {user!r} on this node")
    if assignee.state != "active" and not or_disabled:
        raise Disabled.user(user)
    return assignee.uid


def _uids_of_owners(ledger: Ledger, record: WorkspaceRecord) -> FrozenSet[int]:
    """Return the uids that may own parts of the tree; NotManaged when one has another account now."""
    owners = _owners(ledger, record)
    for owner in owners:
        accounts.check_ours(owner.name, owner.uid)
    return frozenset(owner.uid for owner in owners)


def _owners(ledger: Ledger, record: WorkspaceRecord) -> List[UserRecord]:
    """Return the users that may own parts of the tree: its own, and those of the unfinished assignment."""
    owners = [ledger.user(name) for name in (record.user, *ledger.assignees(record.name))]
    return [owner for owner in owners if owner is not None]


def _is_dedicated_user(ledger: Ledger, record: WorkspaceRecord) -> bool:
    """Tell whether the user of a workspace has the workspace's name and owns no other."""
    if record.user != record.name:
        return False
    owner = ledger.user(record.user)
    if owner is not None:
        lost_records.restore_workspaces(ledger, owner)
    return ledger.workspaces_of(record.user) == [record.name]


def _check_directory(name: str, owners: List[UserRecord]) -> None:
    """Raise NotManaged when the directory of a workspace is not the one that CodeSmith made."""
    if not any(trees.is_owned_directory(WORKSPACES, name, owner.uid, or_sealed=True) for owner in owners):
        raise NotManaged(
            f"the directory {path_of(name)} is not the one that CodeSmith made; it is left alone",
            hint="inv node.health",
        )


def _transfer_tree(record: WorkspaceRecord, change: handover.Change) -> None:
    """Move the tree to staging, kill the processes that could still hold it, replace every inode."""
    handover.move_to_staging(WORKSPACES, record.name)
    jobs.stop_all(record.name)
    for uid in change.old_uids - {change.uid}:
        suspension.stop_units(uid)
        processes.end_present(uid)
    entries = [one for one in _workspace_entries(record, change.uid) if one.path not in FOLDERS]
    handover.change_owner(record.name, change, entries)


def _workspace_entries(record: WorkspaceRecord, uid: int) -> List[trees.Entry]:
    metadata = {**_describe(record, uid), "node": os.uname().nodename, "directories": list(FOLDERS)}
    text = AGENTS_MD.format(
        name=record.name, node=os.uname().nodename, login=login_of(record.user), path=path_of(record.name)
    )
    return [
        *(trees.Entry(folder, 0o700) for folder in FOLDERS),
        trees.Entry("AGENTS.md", 0o600, text.encode()),
        trees.Entry(".codesmith", 0o500),
        trees.Entry(".codesmith/workspace.json", 0o400, json.dumps(metadata, indent=2).encode() + b"\n"),
    ]


def _describe(record: WorkspaceRecord, uid: int) -> Dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "path": path_of(record.name),
        "user": record.user,
        "login": login_of(record.user),
        "uid": uid,
        "gid": uid,
        "created_at": record.created_at,
    }
