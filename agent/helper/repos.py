"""Repositories inside workspaces: git runs as the workspace's login in a job, root only moves a tree away.

The job's answer is that login's word, so it is checked like everything else that comes from outside.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from contextlib import nullcontext
from typing import Any, ContextManager, Dict, List, NamedTuple, Optional

from agent.git import errors, grammar
from agent.git.repository import MARK, temporary_name
from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime import jobs, proxies, sandboxes, slots
from agent.helper.trees import mounts, trees
from agent.shared.errors import (
    CommandFailed,
    Disabled,
    InUse,
    InvalidParams,
    LimitReached,
    NotFound,
    NotManaged,
    Unsupported,
)
from agent.shared.names import WORKSPACES, login_of, parse_name, path_of

TIMEOUT_MAX_S = 3600.0
INIT_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 60.0
LEFT_OUT = ("lfs", "submodules")


class Place(NamedTuple):
    """A workspace that is ours, whose it is, and what its jobs are held to."""

    workspace: str
    user: str
    uid: int
    sandbox: Optional[sandboxes.Sandbox]


def init(caller: socket.socket, ledger: Ledger, workspace: Any, name: Any, branch: Any, token: Any) -> Dict[str, Any]:
    """Make an empty repository code/NAME."""
    place, name = find(ledger, workspace), parse_name(name)
    request = {"action": "init", "name": name, "branch": grammar.parse_branch(branch, "default_branch")}
    return _make(place, request, grammar.parse_token(token), INIT_TIMEOUT_S, caller)


def clone(
    caller: socket.socket, ledger: Ledger, workspace: Any, name: Any, url: Any, ref: Any, depth: Any, credential: Any,
    known_hosts: Any, token: Any, timeout_s: Any, descriptor: Optional[int],
) -> Dict[str, Any]:  # fmt: skip
    """Clone into code/NAME; it appears whole or not at all. `descriptor` leads to the ssh agent that is lent to it."""
    place, name, url = find(ledger, workspace), parse_name(name), grammar.parse_url(url)
    if not isinstance(timeout_s, float) or not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise InvalidParams.of("timeout_s", f"must be between 0 and {TIMEOUT_MAX_S:.0f}")
    is_https = url.startswith("https:")
    request = {
        "action": "clone",
        "name": name,
        "url": url,
        "host": grammar.host_of(url) if is_https else "",
        "ref": None if ref is None else grammar.parse_ref(ref),
        "depth": grammar.parse_depth(depth),
        "credential": grammar.parse_credential(credential, url),
        "known_hosts": grammar.parse_known_hosts(known_hosts),
    }
    if ("agent" in request["credential"]) != (descriptor is not None):
        raise InvalidParams.of("credential", "names an agent that is not lent, or none that is")
    programs = ["git"] if is_https else ["git", "ssh"]
    token = grammar.parse_token(token)
    with _apart(place):
        return _make(bounded(with_network(place)), request, token, timeout_s, caller, programs, descriptor)


def read(caller: socket.socket, ledger: Ledger, workspace: Any, names: Any) -> Dict[str, Any]:
    """Return branch and commit of each repository, as git tells the workspace's login."""
    place, names = find(ledger, workspace), grammar.parse_names(names)
    found = _ask(place, {"action": "read", "names": names, "programs": ["git"]}, None, READ_TIMEOUT_S, caller)
    repos = found.get("repos")
    if not isinstance(repos, dict):
        raise _failed("git rev-parse", found, {})
    return {"repos": {name: _checked(repos.get(name)) for name in names}}


def settle(ledger: Ledger, workspace: Any, name: Any, token: Any) -> bool:
    """End what the making of a repository left running and lying; tell whether code/NAME is what it made.

    Holds the ledger alone.
    """
    workspace, name, token = parse_name(workspace, "workspace"), parse_name(name), grammar.parse_token(token)
    jobs.stop(jobs.unit_of(workspace, token))
    record = ledger.workspace(workspace)
    if record is not None and record.state == "moving":
        raise InUse(f"the assignment of workspace {workspace!r} to another user is not finished", hint="try again")
    owner = ledger.user(record.user) if record else None
    if owner is None:
        return False
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), temporary_name(token))
    mark = trees.read_inside(WORKSPACES, workspace, owner.uid, ("code", name, ".git"), MARK)
    return bool(mark.strip() == token.encode())


def remove(ledger: Ledger, workspace: Any, name: Any) -> None:
    """Remove code/NAME of a workspace, whatever it is and however deep. Holds the ledger alone."""
    workspace, name = parse_name(workspace, "workspace"), parse_name(name)
    record = ledger.workspace(workspace)
    owner = ledger.user(record.user) if record else None
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    mounts.refuse_mounts(f"{path_of(workspace)}/code/{name}")
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), name)


def find(ledger: Ledger, workspace: Any) -> Place:
    """Return a workspace in which a job may run."""
    workspace = parse_name(workspace, "workspace")
    record = ledger.workspace(workspace)
    owner = ledger.user(record.user) if record else None
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    if owner.state != "active":
        raise Disabled.user(owner.name)
    if accounts.check_ours(owner.name, owner.uid) is None:
        raise NotManaged(f"the Unix account {login_of(owner.name)!r} is gone", hint="inv node.health")
    found = ledger.sandbox(workspace)
    return Place(workspace, owner.name, owner.uid, sandboxes.Sandbox(workspace, *found) if found else None)


def with_network(place: Place) -> Place:
    """Return the place with the network that a clone needs; all other limits of its sandbox stay."""
    sandbox = place.sandbox
    return place if sandbox is None else place._replace(sandbox=sandbox._replace(network="full"))


def bounded(place: Place) -> Place:
    """Return the place with a memory limit, half of the node's unless its sandbox has one: git keeps all it hears."""
    sandbox = place.sandbox or sandboxes.Sandbox(place.workspace, {}, "full")
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return place._replace(sandbox=sandbox._replace(limits={"memory_bytes": half, **sandbox.limits}))


def _apart(place: Place) -> ContextManager[None]:
    """Keep a clone and commands without network apart: one login, so they could make it do their bidding."""
    is_cut_off = place.sandbox is not None and place.sandbox.network == "none"
    return slots.hold_network(place.uid, alone=True) if is_cut_off else nullcontext()


def _make(
    place: Place, request: Dict[str, Any], token: str, timeout_s: float, caller: socket.socket,
    programs: Optional[List[str]] = None, descriptor: Optional[int] = None,
) -> Dict[str, Any]:  # fmt: skip
    whole = {**request, "token": token, "programs": programs or ["git"]}
    found = _ask(place, whole, token, timeout_s, caller, descriptor)
    problem = found.get("problem")
    if problem == "exists":
        path = f"code/{request['name']}"
        raise NotManaged(f"{path} exists in workspace {place.workspace!r} and was not made by CodeSmith")
    if problem == "missing":
        program = "ssh" if found.get("program") == "ssh" else "git"
        hint = "inv node.prepare" if program == "git" else "install openssh-client on the node"
        raise Unsupported(f"this node has no {program}", hint=hint)
    if problem == "quota":
        text = "git was stopped: a disk quota of the workspace's login is used up; nothing of the clone is left"
        raise LimitReached(text, hint="on the node: repquota -a; or clone less of it with `depth`")
    if problem == "full":
        text = "git was stopped: the clone would have filled the node's disk; nothing of it is left"
        raise LimitReached(text, hint="make room on the node, or clone less of it with `depth`")
    if not isinstance(found.get("repo"), dict):
        raise _failed(f"git {request['action']}", found, request)
    return _checked(found["repo"])


def _ask(
    place: Place, request: Dict[str, Any], token: Optional[str], timeout_s: float, caller: socket.socket,
    descriptor: Optional[int] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Run our own program as the workspace's login and return its answer, which is that login's word."""
    timeout_s = sandboxes.runtime_s(place.sandbox, timeout_s)
    done = jobs.run_job(
        place.workspace, place.user, argv=[sys.executable, "-I", "-S", sys.path[0], "git"], cwd="", env={},
        stdin=json.dumps(request).encode(), timeout_s=timeout_s, caller=caller, job=token, sandbox=place.sandbox,
        descriptor=descriptor,
    )  # fmt: skip
    if done["killed_by"] == "memory":
        hint = f"inv sandbox.create {place.workspace} --memory SIZE allows it more"
        raise LimitReached("git needed more memory than it may have in this workspace, and was ended", hint=hint)
    if done["killed_by"] == "timeout":
        raise LimitReached(f"git did not end within {timeout_s:.0f} s and was stopped", hint="give a longer timeout_s")
    if done["exit_code"]:
        # Not its standard error: a traceback is of no use to the caller.
        return {"command": "git", "exit_code": done["exit_code"], "stderr": "it was ended before it could answer"}
    try:
        found = json.loads(done["stdout"])
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _checked(found: Any) -> Dict[str, Any]:
    """Return branch, commit and what was left out if they are such, nothing otherwise."""
    found = found if isinstance(found, dict) else {}
    branch, commit = found.get("branch"), found.get("commit")
    try:
        branch = None if branch is None else grammar.parse_ref(branch)
    except InvalidParams:
        branch = None
    is_commit = isinstance(commit, str) and re.fullmatch(grammar.COMMIT, commit)
    as_error = found.get("left_out")
    left_out = [word for word in LEFT_OUT if isinstance(as_error, list) and word in as_error]
    return {"branch": branch, "commit": commit if is_commit else None, "left_out": left_out}


def _failed(command: str, found: Dict[str, Any], request: Dict[str, Any]) -> CommandFailed:
    """Return the error with the line that decided, and what helps; without secrets."""
    code, credential = found.get("exit_code"), request.get("credential", {})
    stderr = errors.whole_lines(str(found.get("stderr", "")))
    stderr = errors.redact(stderr, credential, proxies.secrets())[-errors.STDERR_MAX :]
    return CommandFailed(
        f"{command} failed: {errors.deciding(stderr)}",
        hint=errors.hint_for(stderr, request.get("url", ""), credential) if "url" in request else "",
        command=command,
        exit_code=code if isinstance(code, int) else None,
        stderr=stderr.strip(),
    )
