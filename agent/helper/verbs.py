"""The fixed table of verbs. A verb takes names and derives everything else. A second call completes the first."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional

from agent.helper import inspection, repos, suspension, users, workspaces
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.system_errors import as_error, pending_on_error
from agent.helper.runtime import change, sandboxes, units
from agent.helper.runtime.entry import read_entry
from agent.helper.trees import trash
from agent.shared import needs, sshd_door
from agent.shared.errors import CommandFailed, InvalidParams, NotFound, NotManaged
from agent.shared.names import home_of, parse_name, path_of
from agent.shared.run import run

MEASURE_S = 30.0


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


def start_runtime(caller: socket.socket, workspace: Any, for_clone: Any) -> Dict[str, Any]:
    """Make the socket of a workspace's runtime, whose first connection starts it."""
    workspace = parse_name(workspace, "workspace")
    if not isinstance(for_clone, bool):
        raise InvalidParams.of("for_clone", "must be true or false")
    with exclusive_ledger(frees_space=True) as ledger:
        units.start(read_entry(ledger, workspace), for_clone=for_clone)
    return {}


def stop_runtime(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """End the runtime of a workspace and everything in it; its jobs have a moment to save their work."""
    workspace = parse_name(workspace, "workspace")
    units.ask_to_end(workspace)
    with exclusive_ledger(frees_space=True) as ledger:
        if ledger.workspace(workspace) is None:
            raise NotFound(f"no workspace {workspace!r} on this node")
        suspension.end_all(ledger, [workspace])
    return {}


def measure_workspace(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """Return what the files of a workspace take on disk, and how many there are; None when that takes too long."""
    with read_ledger() as ledger:
        entry = read_entry(ledger, parse_name(workspace, "workspace"))
    places = (path_of(entry.workspace), home_of(workspace))
    return {
        "disk_bytes": _measure("--block-size=1", *places),
        "files": _measure("--inodes", *places),
    }


def _measure(option: str, *places: str) -> Optional[int]:
    """Return the sum that du gives as root: it opens no file, holds the directories that it is in, follows no link.

    As the login it would be a process of the login outside of the runtime, which those inside could trace on a kernel
    without user namespaces.
    """
    words = ("--summarize", "--one-file-system", option, "--", *places)
    try:
        lines = run("du", *words, allowed=(0, 1), timeout_s=MEASURE_S).stdout.splitlines()
    except CommandFailed:
        return None
    return sum(int(line.split()[0]) for line in lines)


def ensure_sandbox(caller: socket.socket, workspace: Any, limits: Any, network: Any) -> Dict[str, Any]:
    """Prove with a look from inside that the node enforces a sandbox, then end the runtime, which starts with it."""
    workspace = parse_name(workspace, "workspace")
    sandbox = sandboxes.parse(workspace, limits, network)
    with read_ledger() as ledger:
        entry = read_entry(ledger, workspace)._replace(sandbox=sandbox)
    try:
        seen = units.probe(entry)
    except CommandFailed:  # what runs there can kill the probe, which has its uid
        with exclusive_ledger() as ledger:
            suspension.end_all(ledger, [workspace])
        seen = units.probe(entry)
    enforced = sandboxes.check_enforced(sandbox, seen)
    with exclusive_ledger() as ledger:
        read_entry(ledger, workspace)
        ledger.put_sandbox(workspace, sandbox.limits, sandbox.network)
        with pending_on_error():
            suspension.end_all(ledger, [workspace])
    return {"enforced": enforced, "network": sandbox.network}


def remove_sandbox(caller: socket.socket, workspace: Any) -> Dict[str, Any]:
    """Forget the sandbox of a workspace and end its runtime."""
    workspace = parse_name(workspace, "workspace")
    with exclusive_ledger(frees_space=True) as ledger:
        if ledger.workspace(workspace) is None and os.path.lexists(path_of(workspace)):
            problem = f"the helper's ledger does not know workspace {workspace!r}, but {path_of(workspace)} is there"
            raise NotManaged(problem, hint="inv node.health")
        is_there = ledger.workspace(workspace) is not None
        ledger.remove_sandbox(workspace)
        with pending_on_error():
            if is_there:
                suspension.end_all(ledger, [workspace])
            else:
                units.stop(workspace)
    return {}


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


def check_door(caller: socket.socket) -> Dict[str, Any]:
    """Return whether people with a key come in through the node's sshd, and what it does not do as it must."""
    return sshd_door.report()


# These fill the trash.
REMOVING = frozenset(("repo.remove", "user.remove", "workspace.remove"))
VERBS: Dict[str, Verb] = {
    "node.check": Verb(check_node, frozenset()),
    "node.check_door": Verb(check_door, frozenset()),
    "node.inspect": Verb(inspect_node, frozenset()),
    "repo.remove": Verb(remove_repo, frozenset(("workspace", "name"))),
    "repo.settle": Verb(roll_back_repo, frozenset(("workspace", "name", "token"))),
    "runtime.start": Verb(start_runtime, frozenset(("workspace", "for_clone"))),
    "runtime.stop": Verb(stop_runtime, frozenset(("workspace",))),
    "sandbox.change": Verb(
        change.change_sandbox,
        frozenset(("workspace", "limits", "network", "allow", "deny", "drop", "restart", "force")),
    ),
    "sandbox.ensure": Verb(ensure_sandbox, frozenset(("workspace", "limits", "network"))),
    "sandbox.remove": Verb(remove_sandbox, frozenset(("workspace",))),
    "user.disable": Verb(users.disable_user, frozenset(("name",))),
    "user.enable": Verb(users.enable_user, frozenset(("name",))),
    "user.drift": Verb(users.read_drift, frozenset(("name",))),
    "user.ensure": Verb(users.ensure_user, frozenset(("name",))),
    "user.put_keys": Verb(users.put_keys, frozenset(("name", "keys"))),
    "user.put_right": Verb(users.put_right, frozenset(("name",))),
    "user.remove": Verb(users.remove_user, frozenset(("name",))),
    "workspace.assign": Verb(workspaces.assign_workspace, frozenset(("name", "user"))),
    "workspace.ensure": Verb(workspaces.ensure_workspace, frozenset(("name", "user", "dedicated"))),
    "workspace.measure": Verb(measure_workspace, frozenset(("workspace",))),
    "workspace.remove": Verb(workspaces.remove_workspace, frozenset(("name", "remove_user"))),
    "workspace.share": Verb(workspaces.share_workspace, frozenset(("name", "user"))),
    "workspace.unshare": Verb(workspaces.unshare_workspace, frozenset(("name", "user"))),
}
