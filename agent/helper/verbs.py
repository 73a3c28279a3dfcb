"""The fixed table of verbs. Each takes names, derives everything else, and may be called again: the second run of a
verb completes the first."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from contextlib import contextmanager
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional

from agent import sshkeys
from agent.clock import now
from agent.errors import AgentError, CommandFailed, Disabled, InUse, InvalidParams, NotFound, NotManaged
from agent.helper import (
    accounts,
    closing,
    handover,
    holders,
    homes,
    jobs,
    repos,
    running,
    sandboxes,
    schedules,
    sweep,
    trees,
)
from agent.helper.ledger import UID_FIRST, Ledger, UserRecord, WorkspaceRecord
from agent.names import HOMES, STAGING, WORKSPACES, home_of, login_of, parse_name, path_of

LOCK = "/var/lib/codesmith-helper/lock"
LOCK_WAIT_S = 45.0
PROBE_S = 20.0
PAUSE_S = 0.01
FOLDERS = ("code", "config", "data", "logs", "tmp")
AGENTS_MD = """\
# Workspace {name}

You work on node `{node}` as the Unix user `{login}`, in `{path}`.

- Code belongs in `code/`, settings in `config/`, data in `data/`, logs in `logs/`; `tmp/` may be emptied at any time.
- You may do here what `{login}` may do. Other workspaces, other homes and the system are closed to you.
- There is no sudo. Ask the operator when something must be installed.
- Facts about this workspace for programs: `.codesmith/workspace.json` (a copy; changing it changes nothing).
"""


class Verb(NamedTuple):
    """One thing the helper can do, and the only fields it takes."""

    function: Callable[..., Dict[str, Any]]
    fields: FrozenSet[str]


def call(verb: str, arguments: Dict[str, Any], caller: socket.socket) -> Dict[str, Any]:
    """Carry out one verb; an unknown verb or field is refused."""
    entry = VERBS.get(verb)
    if entry is None:
        raise InvalidParams.of("verb", "is unknown")
    if set(arguments) != entry.fields:
        raise InvalidParams.of("arguments", f"must be {', '.join(sorted(entry.fields))}")
    try:
        return entry.function(caller, **arguments)
    except OSError as error:  # a full disk, a read-only file system: what the system says, for people
        raise _told(error, verb) from error


def _told(error: OSError, verb: str, **data: Any) -> CommandFailed:
    text = f"{verb} failed: {error.strerror or error}"
    return CommandFailed(text, command=verb, exit_code=error.errno, stderr=str(error.strerror), **data)


@contextmanager
def exclusive_ledger() -> Iterator[Ledger]:
    """Hold the ledger alone: one writer at a time, for accounts and trees too. Leftovers are swept first."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor)
        trees.sweep()
        ledger = Ledger()
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        os.close(descriptor)


def ensure_user(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Make the account and home of a user, or finish making them."""
    name, keys = parse_name(name), _parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        return _ensure_user(ledger, name, keys)


def set_keys(caller: socket.socket, name: Any, ssh_keys: Any) -> Dict[str, Any]:
    """Write the keys of a user, as the user."""
    name, keys = parse_name(name), _parse_keys(ssh_keys)
    with exclusive_ledger() as ledger:
        closing.set_keys(ledger, _our_user(ledger, name), keys)
    return {}


def disable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Close a user out: logins, schedules, processes and jobs; it stays so until it is enabled."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        closing.disable(ledger, _our_user(ledger, name))
    return {}


def enable_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """Let a disabled user in again, as it was."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        closing.enable(ledger, _our_user(ledger, name))
    return {}


def remove_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """End the user's processes, then remove account and home; in_use while it owns workspaces."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        owned = ledger.workspaces_of(name)
        if owned:
            raise InUse(f"user {name!r} owns workspaces: {', '.join(owned)}")
        left = _remove_account(ledger, name)
        ledger.remove_user(name)
        return {"leftovers": left}


def ensure_workspace(caller: socket.socket, name: Any, user: Any, dedicated: Any) -> Dict[str, Any]:
    """Make the directory of a workspace, whole, for an active user; or find the one that was made.

    `dedicated` is null, or {ssh_keys} to make the user too: one verb, one lock, for the usual case.
    """
    name, user = parse_name(name), parse_name(user, "user")
    if dedicated is not None and (not isinstance(dedicated, dict) or set(dedicated) != {"ssh_keys"}):
        raise InvalidParams.of("dedicated", "must be null or ssh_keys")
    keys = _parse_keys(dedicated["ssh_keys"]) if dedicated else []
    with exclusive_ledger() as ledger:
        if ledger.workspace(name) is None and trees.exists(WORKSPACES, name):
            raise NotManaged(f"the directory {path_of(name)} exists and was not made by CodeSmith")
        account = _ensure_user(ledger, user, keys) if dedicated else None
        return {**_ensure_workspace(ledger, name, user), "account": account}


def assign_workspace(caller: socket.socket, name: Any, user: Any) -> Dict[str, Any]:
    """Give a workspace to another active user and take every way into it from the one that had it.

    Cut off, or failed half-way, it stays in root's staging, marked moving; the next call completes it, also one that
    names another user. An error after that point has data.pending.
    """
    name, user = parse_name(name), parse_name(user, "user")
    with exclusive_ledger() as ledger:
        record = ledger.workspace(name)
        if record is None:
            raise NotFound(f"no workspace {name!r} on this node")
        if record.state not in ("active", "moving"):
            raise InUse(f"workspace {name!r} is being made or deleted", hint="try again")
        uid, old_uids = _uid_of_heir(ledger, user), _uids_of_owners(ledger, record)
        if record.state == "active":
            if record.user == user:
                return _describe(record, uid)
            if not any(trees.is_owned_directory(WORKSPACES, name, old) for old in old_uids):
                raise NotManaged(f"the directory {path_of(name)} is not the one that CodeSmith made")
            ledger.begin_assignment(name, user)
        elif ledger.assignment(name) != user:
            ledger.begin_assignment(name, user)
        record = record._replace(user=user)
        try:
            _hand_over(record, handover.Change(old_uids, uid))
        except AgentError as error:
            error.data["pending"] = True
            raise
        except OSError as error:
            raise _told(error, "workspace.assign", pending=True) from error
        ledger.end_assignment(name, user)
        return _describe(record, uid)


def remove_workspace(caller: socket.socket, name: Any, remove_user: Any) -> Dict[str, Any]:
    """End the workspace's jobs and remove its directory, and its user if asked and if it owns nothing else.

    Nothing happens to what is not in the ledger.
    """
    name = parse_name(name)
    if not isinstance(remove_user, bool):
        raise InvalidParams.of("remove_user", "must be true or false")
    with exclusive_ledger() as ledger:
        record = ledger.workspace(name)
        if record is None:
            return {"leftovers": []}
        ledger.mark_workspace(name, "leaving")
        jobs.stop_all(name)
        trees.remove(WORKSPACES, name)
        trees.remove(STAGING, trees.taken(name))  # where it is in the middle of an assignment
        is_last = remove_user and ledger.workspaces_of(record.user) == [name]
        if is_last:
            left = _remove_account(ledger, record.user)
        ledger.remove_workspace(name, and_user=record.user if is_last else None)
    return {"leftovers": left if is_last else []}


def run_job(
    caller: socket.socket, workspace: Any, argv: Any, cwd: Any, env: Any, stdin: Any, timeout_s: Any
) -> Dict[str, Any]:
    """Run a command as the login of a workspace that is ours."""
    workspace = parse_name(workspace, "workspace")
    problem = jobs.check_job(argv, cwd, env, stdin, timeout_s)
    if problem:
        raise InvalidParams.of(problem.split(" ", 1)[0], problem.split(" ", 1)[1])
    with _fit_for_jobs(workspace) as owner:
        sandbox = _sandbox_of(workspace)
        return jobs.run_job(
            workspace, owner.name, argv=argv, cwd=cwd, env=env, stdin=stdin,
            timeout_s=sandboxes.runtime_s(sandbox, timeout_s), caller=caller, sandbox=sandbox,
        )  # fmt: skip


def ensure_sandbox(caller: socket.socket, workspace: Any, limits: Any, network: Any) -> Dict[str, Any]:
    """Prove the sandbox by a job that looks at itself, then hold all jobs of the workspace to it."""
    workspace = parse_name(workspace, "workspace")
    sandbox = sandboxes.parse(workspace, limits, network)
    probe = ["/usr/bin/python3", "-I", "-S", "-c", sandboxes.PROBE]
    with _fit_for_jobs(workspace) as owner:
        look = jobs.run_job(
            workspace, owner.name, argv=probe, cwd="", env={}, stdin="", timeout_s=PROBE_S, caller=caller,
            sandbox=sandbox,
        )  # fmt: skip
    enforced = sandboxes.judge(sandbox, sandboxes.read_probe(look))
    with exclusive_ledger() as ledger:
        if ledger.workspace(workspace) is None:
            raise NotFound(f"no workspace {workspace!r} on this node")
        ledger.put_sandbox(workspace, sandbox.limits, sandbox.network)
    jobs.stop_all(workspace)  # those that began outside of it
    return {"enforced": enforced}


def remove_sandbox(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """Forget the sandbox of a workspace and end the jobs in it."""
    workspace = parse_name(workspace, "workspace")
    with exclusive_ledger() as ledger:
        ledger.remove_sandbox(workspace)
    jobs.stop_all(workspace)
    return {}


def init_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Make an empty repository in a workspace."""
    with _fit_for_jobs(parse_name(workspace, "workspace")), _read_ledger() as ledger:
        return repos.init(caller, ledger, workspace, **arguments)


def clone_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Clone a repository into a workspace. The ledger is not held: other changes go on."""
    with _fit_for_jobs(parse_name(workspace, "workspace")), _read_ledger() as ledger:
        return repos.clone(caller, ledger, workspace, **arguments)


def read_repos(caller: socket.socket, workspace: Any, names: Any) -> Dict[str, Any]:
    """Return branch and commit of repositories."""
    with _fit_for_jobs(parse_name(workspace, "workspace")), _read_ledger() as ledger:
        return repos.read(caller, ledger, workspace, names)


def settle_repo(caller: socket.socket, workspace: Any, name: Any, token: Any) -> Dict[str, Any]:
    """Remove what an init or clone that did not end left behind."""
    with exclusive_ledger() as ledger:
        return {"is_made": repos.settle(ledger, workspace, name, token)}


def remove_repo(caller: socket.socket, workspace: Any, name: Any) -> Dict[str, Any]:
    """Remove a repository from a workspace."""
    with exclusive_ledger() as ledger:
        repos.remove(ledger, workspace, name)
    return {}


CLONE_FIELDS = frozenset(
    ("workspace", "name", "url", "ref", "depth", "credential", "known_hosts", "token", "timeout_s")
)


CLONE_FIELDS = frozenset(
    ("workspace", "name", "url", "ref", "depth", "credential", "known_hosts", "token", "timeout_s")
)
VERBS: Dict[str, Verb] = {
    "job.run": Verb(run_job, frozenset(("workspace", "argv", "cwd", "env", "stdin", "timeout_s"))),
    "repo.clone": Verb(clone_repo, CLONE_FIELDS),
    "repo.init": Verb(init_repo, frozenset(("workspace", "name", "branch", "token"))),
    "repo.read": Verb(read_repos, frozenset(("workspace", "names"))),
    "repo.remove": Verb(remove_repo, frozenset(("workspace", "name"))),
    "repo.settle": Verb(settle_repo, frozenset(("workspace", "name", "token"))),
    "sandbox.ensure": Verb(ensure_sandbox, frozenset(("workspace", "limits", "network"))),
    "sandbox.remove": Verb(remove_sandbox, frozenset(("workspace",))),
    "user.disable": Verb(disable_user, frozenset(("name",))),
    "user.enable": Verb(enable_user, frozenset(("name",))),
    "user.ensure": Verb(ensure_user, frozenset(("name", "ssh_keys"))),
    "user.remove": Verb(remove_user, frozenset(("name",))),
    "user.set_keys": Verb(set_keys, frozenset(("name", "ssh_keys"))),
    "workspace.assign": Verb(assign_workspace, frozenset(("name", "user"))),
    "workspace.ensure": Verb(ensure_workspace, frozenset(("name", "user", "dedicated"))),
    "workspace.remove": Verb(remove_workspace, frozenset(("name", "remove_user"))),
}


@contextmanager
def _fit_for_jobs(workspace: str) -> Iterator[UserRecord]:
    """Hold a workspace's user as one with a job under way, from before the second look on: see running.py."""
    owner = _owner_of(workspace)
    with running.hold(owner.uid):
        if _owner_of(workspace) != owner:
            raise InUse(f"workspace {workspace!r} is changing hands", hint="try again")
        yield owner


def _sandbox_of(workspace: str) -> Optional[sandboxes.Sandbox]:
    ledger = Ledger()
    found = ledger.sandbox(workspace)
    ledger.close()
    return sandboxes.Sandbox(workspace, *found) if found else None


@contextmanager
def _read_ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    try:
        yield ledger
    finally:
        ledger.close()


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InUse("another change on this node takes too long", hint="try again") from None
            time.sleep(PAUSE_S)  # flock has no deadline of its own


def _our_user(ledger: Ledger, name: str) -> UserRecord:
    """Return the record of a user whose account is there and is the one we made."""
    record = ledger.user(name)
    if record is None or record.state not in ("active", "disabled"):
        raise NotFound(f"no user {name!r} on this node")
    if accounts.check_ours(name, record.uid) is None:
        raise NotManaged(f"the Unix account {login_of(name)!r} is gone", hint="inv node.health")
    return record


def _owner_of(workspace: str) -> UserRecord:
    """Return the user that jobs of this workspace run as; it must be active."""
    ledger = Ledger()
    try:
        record = ledger.workspace(workspace)
        owner = ledger.user(record.user) if record else None
    finally:
        ledger.close()
    if record is not None and record.state == "moving":
        problem = f"the assignment of workspace {workspace!r} to another user is not finished"
        raise InUse(problem, hint=f"inv workspace.assign {workspace} USER")
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    if owner.state != "active":
        raise Disabled(f"user {owner.name!r} is disabled", hint=f"inv user.enable {owner.name}")
    if accounts.check_ours(owner.name, owner.uid) is None:
        raise NotManaged(f"the Unix account {login_of(owner.name)!r} is gone", hint="inv node.health")
    return owner


def _ensure_user(ledger: Ledger, name: str, keys: List[str]) -> Dict[str, Any]:
    record = ledger.user(name)
    if record is None:
        accounts.check_free(name)
        if trees.exists(HOMES, login_of(name)):
            raise NotManaged(f"the directory {home_of(name)} exists and was not made by CodeSmith")
        record = ledger.add_user(name, now(), accounts.first_free(max(ledger.next_uid(), UID_FIRST)))
    elif record.state == "leaving":
        raise InUse(f"user {name!r} is being deleted", hint="try again")
    elif record.state == "disabled":
        raise Disabled(f"user {name!r} is disabled", hint=f"inv user.enable {name}")
    try:
        accounts.ensure(name, record.uid)
        if not trees.is_owned_directory(HOMES, login_of(name), record.uid):
            trees.make(HOMES, login_of(name), record.uid, 0o700, _home_entries(keys))
    except (CommandFailed, NotManaged, OSError):
        _undo_user(ledger, name, record.uid, record.state)
        raise
    if record.state != "active":
        ledger.mark_user(name, "active")
    found = accounts.check_ours(name, record.uid)
    assert found is not None
    uid = record.uid
    return {"login": login_of(name), "uid": uid, "gid": uid, "home": found.pw_dir, "shell": found.pw_shell}


def _remove_account(ledger: Ledger, name: str) -> List[str]:
    """Remove account and home of a user that is in the ledger, and what it left elsewhere; return what stays.

    Its record stays, marked leaving.
    """
    record = ledger.user(name)
    if record is None:
        return []
    if accounts.check_ours(name, record.uid) is not None and trees.exists(HOMES, login_of(name)):
        homes.seal(name, record.uid)  # nobody logs in any more while it is being removed
    ledger.mark_user(name, "leaving")
    schedules.remove(name, record.uid)
    closing.end_all(ledger, record)
    left = [*schedules.remove(name, record.uid), *sweep.sweep(record.uid)]
    accounts.kill_all(record.uid)
    accounts.remove(name, record.uid)
    trees.remove(HOMES, login_of(name))
    return left


def _ensure_workspace(ledger: Ledger, name: str, user: str) -> Dict[str, Any]:
    owner = ledger.user(user)
    if owner is not None and owner.state == "disabled":
        raise Disabled(f"user {user!r} is disabled", hint=f"inv user.enable {user}")
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


def _uid_of_heir(ledger: Ledger, user: str) -> int:
    heir = ledger.user(user)
    if heir is None or heir.state in ("pending", "leaving") or accounts.check_ours(user, heir.uid) is None:
        raise NotFound(f"no user {user!r} on this node")
    if heir.state != "active":
        raise Disabled(f"user {user!r} is disabled")
    return heir.uid


def _uids_of_owners(ledger: Ledger, record: WorkspaceRecord) -> FrozenSet[int]:
    """Return the uids that may own the tree: its user, and the one that an unfinished assignment went to."""
    found = [ledger.user(name) for name in (record.user, ledger.assignment(record.name)) if name is not None]
    for owner in found:
        if owner is not None:
            accounts.check_ours(owner.name, owner.uid)
    return frozenset(owner.uid for owner in found if owner is not None)


def _hand_over(record: WorkspaceRecord, change: handover.Change) -> None:
    """Move the tree out of reach, end what could still hold it, change every inode, move it back."""
    handover.take(WORKSPACES, record.name)
    jobs.stop_all(record.name)
    for uid in change.old_uids - {change.uid}:
        # All of them, not only those that are seen in the tree: a descriptor can travel in a socket's queue.
        closing.stop_units(uid)
        accounts.end_present(uid)
    entries = [one for one in _workspace_entries(record, change.uid) if one.path not in FOLDERS]
    handover.change_owner(record.name, change._replace(held=holders.held_inodes()), entries)
    handover.put_back(WORKSPACES, record.name)


def _parse_keys(value: Any) -> List[str]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise InvalidParams.of("ssh_keys", "must be strings")
    return sshkeys.parse_keys(value)


def _undo_user(ledger: Ledger, name: str, uid: int, state: str) -> None:
    """Take back a user that could not be made: nothing half-done stays, the record neither."""
    if state != "pending":
        return
    accounts.remove(name, uid)
    if trees.is_owned_directory(HOMES, login_of(name), uid):
        trees.remove(HOMES, login_of(name))
    ledger.remove_user(name)


def _home_entries(keys: List[str]) -> List[trees.Entry]:
    return [trees.Entry(".ssh", 0o700), trees.Entry(".ssh/authorized_keys", 0o600, homes.keys_text(keys))]


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
