"""The fixed table of verbs. A verb takes names and derives everything else. A second call completes the first."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional

from agent.helper import inspection, repos, users, workspaces
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.system_errors import as_error, pending_on_error
from agent.helper.runtime import jobs, sandboxes
from agent.helper.runtime.entry import enter
from agent.helper.trees import trash
from agent.shared import needs
from agent.shared.errors import InvalidParams, NotFound, NotManaged
from agent.shared.names import parse_name, path_of

PROBE_S = 20.0


class Verb(NamedTuple):
    """One thing the helper can do, and the fields that it takes, all of them required."""

    function: Callable[..., Dict[str, Any]]
    fields: FrozenSet[str]
    takes_descriptor: bool = False


def call(
    verb: str, arguments: Dict[str, Any], caller: socket.socket, descriptor: Optional[int] = None
) -> Dict[str, Any]:
    """Run one verb. InvalidParams for an unknown verb or field, or a descriptor that the verb does not take."""
    row = VERBS.get(verb)
    if row is None:
        raise InvalidParams.of("verb", "is unknown")
    if set(arguments) != row.fields:
        raise InvalidParams.of("arguments", f"must be {', '.join(sorted(row.fields))}")
    if row.takes_descriptor:
        arguments = {**arguments, "descriptor": descriptor}
    elif descriptor is not None:
        raise InvalidParams.of("descriptor", "is not allowed")
    try:
        return row.function(caller, **arguments)
    except (OSError, sqlite3.DatabaseError) as error:  # a full disk, a read-only file system, a damaged ledger
        raise as_error(error) from error


def ensure_sandbox(caller: socket.socket, workspace: Any, limits: Any, network: Any) -> Dict[str, Any]:
    """Prove with a probe job that the node enforces a sandbox, then use it for all jobs of the workspace."""
    workspace = parse_name(workspace, "workspace")
    sandbox = sandboxes.parse(workspace, limits, network)
    probe = ["/usr/bin/python3", "-I", "-S", "-c", sandboxes.PROBE]
    with enter(workspace) as entry:
        entry = entry._replace(sandbox=sandbox)
        execution = jobs.run_job(entry, argv=probe, cwd="", env={}, timeout_s=PROBE_S, caller=caller)
    enforced = sandboxes.check_enforced(sandbox, sandboxes.read_probe(execution))
    with exclusive_ledger() as ledger:
        if ledger.workspace(workspace) is None:
            raise NotFound(f"no workspace {workspace!r} on this node")
        ledger.put_sandbox(workspace, sandbox.limits, sandbox.network)
    with pending_on_error():
        jobs.stop_all(workspace)  # those that started without it
    return {"enforced": enforced}


def remove_sandbox(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """Forget the sandbox of a workspace and end the jobs in it."""
    workspace = parse_name(workspace, "workspace")
    with exclusive_ledger(frees_space=True) as ledger:
        if ledger.workspace(workspace) is None and os.path.lexists(path_of(workspace)):
            problem = f"the helper's ledger does not know workspace {workspace!r}, but {path_of(workspace)} is there"
            raise NotManaged(problem, hint="inv node.health")
        ledger.remove_sandbox(workspace)
    with pending_on_error():
        jobs.stop_all(workspace)
    return {}


def init_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Make an empty repository in a workspace."""
    with enter(parse_name(workspace, "workspace")) as entry:
        return repos.init(caller, entry, **arguments)


def clone_repo(caller: socket.socket, workspace: Any, **arguments: Any) -> Dict[str, Any]:
    """Clone a repository into a workspace. Other changes go on meanwhile: the ledger is not locked."""
    with enter(parse_name(workspace, "workspace")) as entry:
        return repos.clone(caller, entry, **arguments)


def read_repos(caller: socket.socket, workspace: Any, names: Any) -> Dict[str, Any]:
    """Return branch and commit of repositories."""
    with enter(parse_name(workspace, "workspace")) as entry:
        return repos.read(caller, entry, names)


def roll_back_repo(caller: socket.socket, workspace: Any, name: Any, token: Any) -> Dict[str, Any]:
    """Remove what an unfinished init or clone left behind."""
    with exclusive_ledger(frees_space=True) as ledger:
        return {"is_made": repos.roll_back(ledger, workspace, name, token)}


def remove_repo(caller: socket.socket, workspace: Any, name: Any) -> Dict[str, Any]:
    """Remove a repository from a workspace."""
    with exclusive_ledger(frees_space=True) as ledger:
        repos.remove(ledger, workspace, name)
    trash.empty()
    return {}


def inspect_node(caller: socket.socket) -> Dict[str, Any]:
    """Return the rows of the ledger, and where the node differs from them. Changes nothing and takes no lock."""
    with read_ledger() as ledger:
        return inspection.inspect(ledger)


def check_node(caller: socket.socket) -> Dict[str, Any]:
    """Return what workspaces need of the node, and whether it is there. Works without a ledger."""
    return {"needs": needs.check()}


CLONE_FIELDS = frozenset(
    ("workspace", "name", "url", "ref", "depth", "credential", "known_hosts", "token", "timeout_s")
)
# These fill the trash.
REMOVING = frozenset(("repo.remove", "user.remove", "workspace.remove"))
VERBS: Dict[str, Verb] = {
    "job.run": Verb(
        workspaces.run_job, frozenset(("workspace", "argv", "cwd", "env", "stdin", "encoding", "timeout_s"))
    ),
    "node.check": Verb(check_node, frozenset()),
    "node.inspect": Verb(inspect_node, frozenset()),
    "repo.clone": Verb(clone_repo, CLONE_FIELDS, takes_descriptor=True),
    "repo.init": Verb(init_repo, frozenset(("workspace", "name", "branch", "token"))),
    "repo.read": Verb(read_repos, frozenset(("workspace", "names"))),
    "repo.remove": Verb(remove_repo, frozenset(("workspace", "name"))),
    "repo.settle": Verb(roll_back_repo, frozenset(("workspace", "name", "token"))),
    "sandbox.ensure": Verb(ensure_sandbox, frozenset(("workspace", "limits", "network"))),
    "sandbox.remove": Verb(remove_sandbox, frozenset(("workspace",))),
    "user.disable": Verb(users.disable_user, frozenset(("name",))),
    "user.enable": Verb(users.enable_user, frozenset(("name",))),
    "user.drift": Verb(users.read_drift, frozenset(("name",))),
    "user.ensure": Verb(users.ensure_user, frozenset(("name",))),
    "user.put_right": Verb(users.put_right, frozenset(("name",))),
    "user.remove": Verb(users.remove_user, frozenset(("name",))),
    "workspace.assign": Verb(workspaces.assign_workspace, frozenset(("name", "user"))),
    "workspace.ensure": Verb(workspaces.ensure_workspace, frozenset(("name", "user", "dedicated"))),
    "workspace.remove": Verb(workspaces.remove_workspace, frozenset(("name", "remove_user"))),
    "workspace.share": Verb(workspaces.share_workspace, frozenset(("name", "user"))),
    "workspace.unshare": Verb(workspaces.unshare_workspace, frozenset(("name", "user"))),
}
