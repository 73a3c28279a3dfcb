"""The fixed table of verbs. Each takes names, derives everything else, and may be called again: the second run of a
verb completes the first."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional

from agent.helper import inspection, repos, users, workspaces
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.refusals import as_error, half_done
from agent.helper.runtime import jobs, sandboxes
from agent.helper.trees import handover, trash
from agent.shared import needs
from agent.shared.errors import InvalidParams, NotFound, NotManaged
from agent.shared.names import parse_name, path_of

PROBE_S = 20.0


class Verb(NamedTuple):
    """One thing the helper can do, and the only fields it takes."""

    function: Callable[..., Dict[str, Any]]
    fields: FrozenSet[str]
    borrows: bool = False


def call(
    verb: str, arguments: Dict[str, Any], caller: socket.socket, descriptor: Optional[int] = None
) -> Dict[str, Any]:
    """Carry out one verb; an unknown verb or field is refused, and a descriptor where none is borrowed."""
    entry = VERBS.get(verb)
    if entry is None:
        raise InvalidParams.of("verb", "is unknown")
    if set(arguments) != entry.fields:
        raise InvalidParams.of("arguments", f"must be {', '.join(sorted(entry.fields))}")
    if entry.borrows:
        arguments = {**arguments, "descriptor": descriptor}
    elif descriptor is not None:
        raise InvalidParams.of("descriptor", "is not wanted")
    try:
        return entry.function(caller, **arguments)
    except (OSError, sqlite3.DatabaseError) as error:  # a full disk, a read-only file system, a damaged ledger
        raise as_error(error) from error


def ensure_sandbox(caller: socket.socket, workspace: Any, limits: Any, network: Any) -> Dict[str, Any]:
    """Prove the sandbox by a job that looks at itself, then hold all jobs of the workspace to it."""
    workspace = parse_name(workspace, "workspace")
    sandbox = sandboxes.parse(workspace, limits, network)
    probe = ["/usr/bin/python3", "-I", "-S", "-c", sandboxes.PROBE]
    with workspaces.fit_for_jobs(workspace) as owner:
        look = jobs.run_job(
            workspace, owner.name, argv=probe, cwd="", env={}, timeout_s=PROBE_S, caller=caller,
            sandbox=sandbox,
        )  # fmt: skip
    enforced = sandboxes.judge(sandbox, sandboxes.read_probe(look))
    with exclusive_ledger() as ledger:
        if ledger.workspace(workspace) is None:
            raise NotFound(f"no workspace {workspace!r} on this node")
        ledger.put_sandbox(workspace, sandbox.limits, sandbox.network)
    with half_done():
        jobs.stop_all(workspace)  # those that began outside of it
    return {"enforced": enforced}


def remove_sandbox(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """Forget the sandbox of a workspace and end the jobs in it."""
    workspace = parse_name(workspace, "workspace")
    with exclusive_ledger(makes_room=True) as ledger:
        if ledger.workspace(workspace) is None and os.path.lexists(path_of(workspace)):
            problem = f"the helper's ledger does not know workspace {workspace!r}, but {path_of(workspace)} is there"
            raise NotManaged(problem, hint="inv node.health")
        ledger.remove_sandbox(workspace)
    with half_done():
        jobs.stop_all(workspace)
    return {}


def init_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Make an empty repository in a workspace."""
    with workspaces.fit_for_jobs(parse_name(workspace, "workspace")), read_ledger() as ledger:
        return repos.init(caller, ledger, workspace, **arguments)


def clone_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Clone a repository into a workspace. The ledger is not held: other changes go on."""
    with workspaces.fit_for_jobs(parse_name(workspace, "workspace")), read_ledger() as ledger:
        return repos.clone(caller, ledger, workspace, **arguments)


def read_repos(caller: socket.socket, workspace: Any, names: Any) -> Dict[str, Any]:
    """Return branch and commit of repositories."""
    with workspaces.fit_for_jobs(parse_name(workspace, "workspace")), read_ledger() as ledger:
        return repos.read(caller, ledger, workspace, names)


def roll_back_repo(caller: socket.socket, workspace: Any, name: Any, token: Any) -> Dict[str, Any]:
    """Remove what an init or clone that did not end left behind; InUse while its tree changes hands."""
    with handover.alone(parse_name(workspace, "workspace")), exclusive_ledger(makes_room=True) as ledger:
        return {"is_made": repos.settle(ledger, workspace, name, token)}


def remove_repo(caller: socket.socket, workspace: Any, name: Any) -> Dict[str, Any]:
    """Remove a repository from a workspace."""
    with exclusive_ledger(makes_room=True) as ledger:
        repos.remove(ledger, workspace, name)
    trash.empty()
    return {}


def inspect_node(caller: socket.socket) -> Dict[str, Any]:
    """Return what the ledger holds, and where the node differs from it. Nothing is changed or locked."""
    with read_ledger() as ledger:
        return inspection.inspect(ledger)


def check_node(caller: socket.socket) -> Dict[str, Any]:
    """Look at what workspaces need of the node. Needs no ledger."""
    return {"needs": needs.check()}


CLONE_FIELDS = frozenset(
    ("workspace", "name", "url", "ref", "depth", "credential", "known_hosts", "token", "timeout_s")
)
# They fill the trash.
REMOVING = frozenset(("repo.remove", "user.remove", "workspace.assign", "workspace.remove"))
VERBS: Dict[str, Verb] = {
    "job.run": Verb(
        workspaces.run_job, frozenset(("workspace", "argv", "cwd", "env", "stdin", "encoding", "timeout_s"))
    ),
    "node.check": Verb(check_node, frozenset()),
    "node.inspect": Verb(inspect_node, frozenset()),
    "repo.clone": Verb(clone_repo, CLONE_FIELDS, borrows=True),
    "repo.init": Verb(init_repo, frozenset(("workspace", "name", "branch", "token"))),
    "repo.read": Verb(read_repos, frozenset(("workspace", "names"))),
    "repo.remove": Verb(remove_repo, frozenset(("workspace", "name"))),
    "repo.settle": Verb(roll_back_repo, frozenset(("workspace", "name", "token"))),
    "sandbox.ensure": Verb(ensure_sandbox, frozenset(("workspace", "limits", "network"))),
    "sandbox.remove": Verb(remove_sandbox, frozenset(("workspace",))),
    "user.disable": Verb(users.disable_user, frozenset(("name",))),
    "user.enable": Verb(users.enable_user, frozenset(("name",))),
    "user.drift": Verb(users.read_drift, frozenset(("name",))),
    "user.ensure": Verb(users.ensure_user, frozenset(("name", "ssh_keys"))),
    "user.put_right": Verb(users.put_right, frozenset(("name",))),
    "user.remove": Verb(users.remove_user, frozenset(("name",))),
    "user.set_keys": Verb(users.set_keys, frozenset(("name", "ssh_keys"))),
    "workspace.assign": Verb(workspaces.assign_workspace, frozenset(("name", "user"))),
    "workspace.ensure": Verb(workspaces.ensure_workspace, frozenset(("name", "user", "dedicated"))),
    "workspace.remove": Verb(workspaces.remove_workspace, frozenset(("name", "remove_user"))),
}
