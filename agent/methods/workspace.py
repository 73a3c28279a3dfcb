"""workspace.*: the unit of work: a directory with an owner, and the commands run in it."""

from __future__ import annotations

import os
import threading
from typing import Annotated, Any, Dict, Iterator, List, Literal, Optional

from agent.contract.fields import Keywords, Labels, Name, RequestId, SshKeys
from agent.contract.method import BY_HELPER, method
from agent.contract.types import CreatedWorkspace, Execution, OpenedWorkspace, Workspace, WorkspaceDeleted
from agent.frontend import repo_creation, user_records, workspace_creation
from agent.frontend.context import Context
from agent.shared import ownership
from agent.shared.clock import now
from agent.shared.errors import (
    AgentError,
    AlreadyExists,
    Disabled,
    InUse,
    LimitReached,
    NotFound,
    ReadOnly,
    printable,
)
from agent.shared.names import home_of, path_of

TIMEOUT_S = 60.0
JOBS_MAX = 48
_jobs = threading.BoundedSemaphore(JOBS_MAX)
# Every inode of the tree gets its new owner: a million files take minutes.
ASSIGN_TIMEOUT_S = 1800.0
# No NUL, and no half of a surrogate pair: neither can reach a program.
ARGUMENT = Keywords({"pattern": "^[^\\x00\\ud800-\\udfff]*$", "errorMessage": "must be text without NUL"})


def _roll_back_create(
    context: Context,
    *,
    name: Name,
    repo: Dict[str, Any],
    user: Optional[Name] = None,
    request_id: Optional[RequestId] = None,
    **_: Any,
) -> CreatedWorkspace:
    return _show_created(workspace_creation.roll_back(context, name, user, repo, request_id))


@method(
    "workspace.create",
    errors=(NotFound, AlreadyExists, Disabled, *BY_HELPER),
    mutates=True,
    roll_back=_roll_back_create,
    secrets=("repo.credential",),
    long_with="repo",
)
def create(
    context: Context,
    *,
    name: Name,
    user: Optional[Name] = None,
    ssh_keys: Optional[SshKeys] = None,
    labels: Optional[Labels] = None,
    repo: Annotated[Optional[Dict[str, Any]], repo_creation.REPO] = None,
    request_id: Optional[RequestId] = None,
) -> CreatedWorkspace:
    """Create a workspace: a 0700 directory with code, config, data, logs and tmp, owned by one login.

    Without `user` it belongs to a dedicated user of the same name, which is created if needed and deleted with it.
    `ssh_keys` are those of the dedicated user and cannot be given for an existing one. With `repo` it is pending until
    that is cloned; a clone that fails or is cut off takes the workspace with it, and a user that was made for it.
    """
    wanted = workspace_creation.WorkspaceRequest(name, user, ssh_keys, labels or {})
    if repo is None:
        return _show_created(workspace_creation.make(context, wanted))
    return _show_created(workspace_creation.make_with_repo(context, wanted, repo, request_id))


@method("workspace.get", errors=(NotFound, ReadOnly))
def get(context: Context, *, name: Name) -> Workspace:
    """Return one workspace."""
    return show(find_ours(context, name))


@method(
    "workspace.list",
    errors=(ReadOnly,),
)
def list_(context: Context, *, user: Optional[Name] = None, labels: Optional[Labels] = None) -> Iterator[Workspace]:
    """Return all workspaces by name: those of one user, those that carry all the given labels."""
    wanted = (labels or {}).items()
    return (show(found) for found in shown(context, user) if wanted <= found["labels"].items())


@method("workspace.open", errors=(NotFound, Disabled, InUse, ReadOnly), mutates=True, decides="opened_at")
def open_(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> OpenedWorkspace:
    """Note that a workspace is entered now (opened_at), and return how: login, directory, environment.

    `login.user` lets in whoever holds one of its keys. Nothing is started on the node.
    """
    find_ours(context, name)
    document = {**find_ready(context, name), "opened_at": now()}
    context.store.change_workspace(name, {"opened_at": document["opened_at"]})
    login = {
        "user": document["login"],
        "host_hint": os.uname().nodename,
        "directory": document["path"],
        "environment": {
            "HOME": home_of(document["user"]),
            "CODESMITH_WORKSPACE": name,
            "CODESMITH_DIRECTORY": document["path"],
        },
    }
    return {**show(document), "login": login}  # type: ignore[typeddict-item]


@method("workspace.update", errors=(NotFound, InUse, ReadOnly), mutates=True, decides="labels")
def update(
    context: Context, *, name: Name, labels: Optional[Labels] = None, request_id: Optional[RequestId] = None
) -> Workspace:
    """Write the labels of a workspace: those given are all it has afterwards; without `labels` they stay."""
    document = find_ours(context, name)
    if labels is not None:
        document = {**document, "labels": labels}
        context.store.change_workspace(name, {"labels": labels})
    return show(document)


def _complete_assignment(
    context: Context, *, name: str, user: str, request_id: Optional[str] = None
) -> Workspace:  # request_id: as the method has it
    """Finish an assignment that was begun before: while it is pending, how far it came is the helper's to say."""
    is_begun = find(context, name).get("state", "ready") != "ready"
    try:
        return _give(context, name, user)
    except AgentError as error:
        raise error.as_pending() if is_begun else error from None


def _give(context: Context, name: str, user: str) -> Workspace:
    """Have the helper give a workspace to a user. Meanwhile it is pending and cannot be entered."""
    mine = object()
    if context.assigning.setdefault(name, mine) is not mine:
        raise InUse(f"workspace {name!r} is being assigned to another user", hint="try again")
    try:
        before = find(context, name).get("state", "ready")
        context.store.change_workspace(name, {"state": "pending"})
        try:
            made = context.helper.call("workspace.assign", reply_timeout_s=ASSIGN_TIMEOUT_S, name=name, user=user)
        except AgentError as error:
            if not error.is_pending:
                context.store.change_workspace(name, {"state": before})
            raise
        context.store.change_workspace(name, {**made, "state": "ready"})
        return show(find(context, name))
    finally:
        del context.assigning[name]


@method(
    "workspace.assign",
    errors=(NotFound, Disabled, *BY_HELPER),
    mutates=True,
    decides="owner",
    roll_back=_complete_assignment,
)
def assign(context: Context, *, name: Name, user: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """Give a workspace to another active user, and take every way into it from the one that had it.

    All processes of the previous owner end, those in its other workspaces too. Everything is made anew, files are
    copied; ACLs, set-id bits, file capabilities and the rights of others go. AGENTS.md and .codesmith/workspace.json
    are written anew. The previous owner stays a user, also a dedicated one. Until it is done the workspace is pending
    and cannot be entered, and other changes go on; cut off, it is completed at the next start or by the same call.
    """
    workspace_creation.check_created(find(context, name))
    if user_records.find(context, user)["state"] != "active":
        raise Disabled.user(user)
    return _give(context, name, user)


@method("workspace.delete", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def delete(
    context: Context, *, name: Name, keep_user: bool = False, request_id: Optional[RequestId] = None
) -> WorkspaceDeleted:
    """Delete a workspace with all that is in it; its dedicated user goes too unless kept or in use."""
    document = context.store.get_workspace(name)
    if document is None and not ownership.is_workspace_left(name):
        raise NotFound(f"no workspace {name!r} on this node", hint="inv workspace.list")
    owner = None if document is None else context.store.get_user(document["user"])
    # By name: a workspace that was assigned to another one's dedicated user does not take that user with it.
    is_dedicated = owner is not None and owner["dedicated"] and owner["name"] == name
    is_last = owner is not None and is_dedicated and owner["workspaces"] == [name]
    remove_user = is_last and not keep_user
    done = context.helper.call("workspace.remove", name=name, remove_user=remove_user)
    if done["user_removed"]:
        context.store.remove_user(name)
    context.store.remove_workspace(name)
    left = [printable(path) for path in done["leftovers"]]
    return {"name": name, "deleted": True, "user_deleted": done["user_removed"], "leftovers": left}


@method("workspace.exec", errors=(NotFound, Disabled, *BY_HELPER), mutates=True, is_resumable=False)
def exec_(
    context: Context,
    *,
    name: Name,
    argv: Annotated[List[Annotated[str, ARGUMENT]], Keywords({"minItems": 1, "maxItems": 1024})],
    cwd: Annotated[
        Optional[str],
        Keywords(
            {
                "pattern": "^[^\\x00\\ud800-\\udfff]+$",
                "maxLength": 4096,
                "description": "Relative to the workspace; inside it.",
                "errorMessage": "must be a path inside the workspace, of up to 4096 characters without NUL",
            }
        ),
    ] = None,
    env: Annotated[
        Optional[Dict[str, Annotated[str, ARGUMENT]]],
        Keywords(
            {
                "maxProperties": 256,
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "errorMessage": "must be at most 256 variables, their names of A-Z, a-z, 0-9 and _",
            }
        ),
    ] = None,
    stdin: Annotated[Optional[str], ARGUMENT] = None,
    encoding: Annotated[
        Optional[Literal["text", "base64"]],
        Keywords({"description": "What stdin is in, and what stdout and stderr are shown in. Default text."}),
    ] = None,
    timeout_s: Annotated[
        Optional[float],
        Keywords(
            {
                "exclusiveMinimum": 0,
                "maximum": 3600,
                "description": f"Default {TIMEOUT_S:.0f}.",
                "x-default-s": TIMEOUT_S,
            }
        ),
    ] = None,
    request_id: Optional[RequestId] = None,
) -> Execution:
    """Run a command to its end as the workspace's user, in the workspace.

    No shell is involved. What the command leaves running in the background ends with it. An exit code other than 0 is
    a result, not an error. No byte is replaced: an output that is no UTF-8 is shown as base64, also with encoding text.
    """
    find_ready(context, name)
    limit_s = TIMEOUT_S if timeout_s is None else float(timeout_s)
    if not _jobs.acquire(blocking=False):
        raise LimitReached(f"{JOBS_MAX} commands run on this node already", hint="try again")
    try:
        return context.helper.call(  # type: ignore[return-value]
            "job.run",
            reply_timeout_s=limit_s + 60,
            workspace=name,
            argv=argv,
            cwd=cwd or "",
            env=env or {},
            stdin=stdin or "",
            encoding=encoding or "text",
            timeout_s=limit_s,
        )
    finally:
        _jobs.release()


def find(context: Context, name: str) -> Dict[str, Any]:
    """Return the stored document of a workspace; NotFound when it is not one of ours."""
    document = context.store.get_workspace(name)
    if document is None and ownership.is_workspace_left(name):
        problem = f"the agent's store does not know workspace {name!r}, but {path_of(name)} is on the node"
        raise NotFound(problem, hint=f"inv node.health; inv workspace.delete {name} removes it")
    if document is None:
        raise NotFound(f"no workspace {name!r} on this node", hint="inv workspace.list")
    return document


def find_ours(context: Context, name: str) -> Dict[str, Any]:
    """Return the stored document of a workspace that is ours by all that the front end can see; NotFound otherwise."""
    document = find(context, name)
    if not ownership.is_workspace(document):
        problem = f"the directory {path_of(name)} is not the one that CodeSmith made"
        raise NotFound(problem, hint=f"on the node: ls -ld {path_of(name)}")
    return document


def shown(context: Context, user: Optional[str] = None) -> Iterator[Dict[str, Any]]:
    """Yield the stored documents of all workspaces that are ours, or of one user's."""
    return (document for document in context.store.list_workspaces(user) if ownership.is_workspace(document))


def find_ready(context: Context, name: str) -> Dict[str, Any]:
    """Return the document of a workspace that can be entered: whole, and its owner active."""
    document = find(context, name)
    workspace_creation.check_created(document)
    if document.get("state", "ready") != "ready":
        problem = f"the assignment of workspace {name!r} to another user is not finished"
        raise InUse(problem, hint=f"inv workspace.assign {name} USER")
    owner = user_records.find(context, document["user"])
    if owner["state"] != "active":
        raise Disabled.user(owner["name"])
    return document


def _show_created(document: Dict[str, Any]) -> CreatedWorkspace:
    return {**show(document), "warnings": document.get("warnings", [])}


def show(document: Dict[str, Any]) -> Workspace:
    """Return a stored document as the contract shows it."""
    return {
        "id": document["id"],
        "name": document["name"],
        "path": document["path"],
        "user": document["user"],
        "login": document["login"],
        "uid": document["uid"],
        "gid": document["gid"],
        "mode": ownership.mode_of(document["name"]),
        "state": document.get("state", "ready"),
        "labels": document["labels"],
        "repos": document["repos"],
        "sandbox": document.get("sandbox"),
        "created_at": document["created_at"],
        "opened_at": document["opened_at"],
    }
