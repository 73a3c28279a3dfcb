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
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Tuple

from agent import sshkeys
from agent.clock import now
from agent.errors import CommandFailed, Disabled, InUse, InvalidParams, NotFound, NotManaged
from agent.helper import accounts, jobs, repos, sandboxes, trees
from agent.helper.ledger import UID_FIRST, Ledger, UserRecord, WorkspaceRecord
from agent.names import HOMES, WORKSPACES, home_of, login_of, parse_name, path_of
from agent.run import run

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
        text = f"{verb} failed: {error.strerror or error}"
        raise CommandFailed(text, command=verb, exit_code=error.errno, stderr=str(error.strerror)) from error


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


def remove_user(caller: socket.socket, name: Any) -> Dict[str, Any]:
    """End the user's processes, then remove account and home; in_use while it owns workspaces."""
    name = parse_name(name)
    with exclusive_ledger() as ledger:
        owned = ledger.workspaces_of(name)
        if owned:
            raise InUse(f"user {name!r} owns workspaces: {', '.join(owned)}")
        _remove_account(ledger, name)
        ledger.remove_user(name)
        return {"leftovers": [home_of(name)] if trees.exists(HOMES, login_of(name)) else []}


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
            return {}
        ledger.mark_workspace(name, "leaving")
        jobs.stop_all(name)
        trees.remove(WORKSPACES, name)
        is_last = remove_user and ledger.workspaces_of(record.user) == [name]
        if is_last:
            _remove_account(ledger, record.user)
        ledger.remove_workspace(name, and_user=record.user if is_last else None)
    return {}


def run_job(
    caller: socket.socket, workspace: Any, argv: Any, cwd: Any, env: Any, stdin: Any, timeout_s: Any
) -> Dict[str, Any]:
    """Run a command as the login of a workspace that is ours."""
    workspace = parse_name(workspace, "workspace")
    problem = jobs.check_job(argv, cwd, env, stdin, timeout_s)
    if problem:
        raise InvalidParams.of(problem.split(" ", 1)[0], problem.split(" ", 1)[1])
    _, owner = _active(workspace)
    ledger = Ledger()
    found = ledger.sandbox(workspace)
    ledger.close()
    sandbox = sandboxes.Sandbox(workspace, *found) if found else None
    return jobs.run_job(
        workspace, owner.name, argv=argv, cwd=cwd, env=env, stdin=stdin,
        timeout_s=sandboxes.runtime_s(sandbox, timeout_s), caller=caller, sandbox=sandbox,
    )  # fmt: skip


def ensure_sandbox(caller: socket.socket, workspace: Any, limits: Any, network: Any) -> Dict[str, Any]:
    """Prove the sandbox by a job that looks at itself, then hold all jobs of the workspace to it."""
    workspace = parse_name(workspace, "workspace")
    sandbox = sandboxes.parse(workspace, limits, network)
    record, owner = _active(workspace)
    probe = ["/usr/bin/python3", "-I", "-S", "-c", sandboxes.PROBE]
    look = jobs.run_job(
        record.name, owner.name, argv=probe, cwd="", env={}, stdin="", timeout_s=PROBE_S, caller=caller, sandbox=sandbox
    )
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
    with _read_ledger() as ledger:
        return repos.init(caller, ledger, workspace, **arguments)


def clone_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Clone a repository into a workspace. The ledger is not held: other changes go on."""
    with _read_ledger() as ledger:
        return repos.clone(caller, ledger, workspace, **arguments)


def read_repos(caller: socket.socket, workspace: Any, names: Any) -> Dict[str, Any]:
    """Return branch and commit of repositories."""
    with _read_ledger() as ledger:
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
    "user.ensure": Verb(ensure_user, frozenset(("name", "ssh_keys"))),
    "user.remove": Verb(remove_user, frozenset(("name",))),
    "workspace.ensure": Verb(ensure_workspace, frozenset(("name", "user", "dedicated"))),
    "workspace.remove": Verb(remove_workspace, frozenset(("name", "remove_user"))),
}


def _active(workspace: str) -> Tuple[WorkspaceRecord, UserRecord]:
    """Return a workspace of ours and its user, both fit to run something."""
    ledger = Ledger()
    record = ledger.workspace(workspace)
    owner = ledger.user(record.user) if record else None
    ledger.close()
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    if owner.state != "active":
        raise Disabled(f"user {owner.name!r} is disabled")
    if accounts.check_ours(owner.name, owner.uid) is None:
        raise NotManaged(f"the Unix account {login_of(owner.name)!r} is gone", hint="inv node.health")
    return record, owner


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


def _ensure_user(ledger: Ledger, name: str, keys: List[str]) -> Dict[str, Any]:
    record = ledger.user(name)
    if record is None:
        accounts.check_free(name)
        if trees.exists(HOMES, login_of(name)):
            raise NotManaged(f"the directory {home_of(name)} exists and was not made by CodeSmith")
        record = ledger.add_user(name, now(), accounts.first_free(max(ledger.next_uid(), UID_FIRST)))
    elif record.state == "leaving":
        raise InUse(f"user {name!r} is being deleted", hint="try again")
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


def _remove_account(ledger: Ledger, name: str) -> None:
    """Remove account and home of a user that is in the ledger; its record stays, marked leaving."""
    record = ledger.user(name)
    if record is None:
        return
    accounts.check_ours(name, record.uid)
    ledger.mark_user(name, "leaving")
    _end_everything(record.uid)
    accounts.remove(name, record.uid)
    trees.remove(HOMES, login_of(name))


def _ensure_workspace(ledger: Ledger, name: str, user: str) -> Dict[str, Any]:
    owner = ledger.user(user)
    if owner is None or owner.state != "active" or accounts.check_ours(user, owner.uid) is None:
        raise NotFound(f"no active user {user!r} on this node")
    record = ledger.workspace(name)
    if record is None:
        record = WorkspaceRecord(name, user, str(uuid.uuid4()), "pending", now())
        ledger.add_workspace(record)
    elif record.user != user or record.state == "leaving":
        raise InUse(f"workspace {name!r} belongs to user {record.user!r} or is being deleted")
    if not trees.is_owned_directory(WORKSPACES, name, owner.uid):
        trees.make(WORKSPACES, name, owner.uid, 0o700, _workspace_entries(record, owner.uid))
    ledger.mark_workspace(name, "active")
    return _describe(record, owner.uid)


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


def _end_everything(uid: int) -> None:
    """End the login's user manager and sessions, then every process that is left."""
    if accounts.has_processes(uid):
        run("systemctl", "stop", "--", f"user@{uid}.service", f"user-{uid}.slice", allowed=(0, 5))
    accounts.kill_all(uid)


def _home_entries(keys: List[str]) -> List[trees.Entry]:
    data = "".join(f"{line}\n" for line in keys).encode()
    return [trees.Entry(".ssh", 0o700), trees.Entry(".ssh/authorized_keys", 0o600, data)]


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
