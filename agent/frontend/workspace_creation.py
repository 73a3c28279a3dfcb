"""Creates a workspace, whole or not at all; with a first repository, it is pending until that is cloned."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from agent.frontend import repo_creation, user_records
from agent.frontend.context import Context
from agent.git import grammar
from agent.shared import sshkeys
from agent.shared.errors import AgentError, AlreadyExists, CommandFailed, Disabled, InUse, InvalidParams, NotFound

# The field of a stored workspace while its first repository is being cloned; stores of earlier releases have it too.
CREATING = "founding"


class WorkspaceRequest(NamedTuple):
    """The parameters of a new workspace. Without `user`, a dedicated user of its name owns it."""

    name: str
    user: Optional[str]
    ssh_keys: Optional[List[str]]
    labels: Dict[str, str]


def create(context: Context, request: WorkspaceRequest, *, has_repo: bool = False) -> Dict[str, Any]:
    """Create a workspace and return its document.

    With `has_repo` it is pending, and its document says what to remove if the clone fails.
    """
    name, user, ssh_keys, labels = request
    existing = context.store.get_workspace(name)
    if existing is not None and CREATING in existing and name not in context.creating:
        _undo(context, existing, None)  # left by an interrupted call
        context.store.flush()
    elif existing is not None:
        check_created(existing)
        raise AlreadyExists(f"workspace {name!r} exists", hint=f"inv workspace.get {name}")
    owner = user or name
    if owner != name and context.store.get_user(name) is not None:
        problem = f"user {name!r} exists, and a name is one thing on a node"
        raise AlreadyExists(problem, hint=f"choose another name; or, for that user: inv workspace.create {name}")
    existing_user = context.store.get_user(owner)
    if existing_user is None and user is not None:
        raise NotFound(f"no user {user!r} on this node", hint=f"inv user.create {user}")
    if existing_user is not None and ssh_keys is not None:
        raise InvalidParams.of("ssh_keys", f"user {owner!r} exists and has its own keys")
    if existing_user is not None and existing_user["state"] != "active":
        raise Disabled.user(owner)
    keys = sshkeys.read_keys(ssh_keys or [])
    made = context.helper.call("workspace.ensure", name=name, user=owner, dedicated=existing_user is None)
    account = made.pop("account")
    if existing_user is None:
        account.update(user_records.give_keys(context, owner, keys))
    document: Dict[str, Any] = {**made, "labels": labels, "repos": [], "shared_with": [], "opened_at": None}
    if has_repo:  # before its user: if the call is interrupted here, the workspace tells what to remove
        document = {**document, "state": "pending", CREATING: {"made_user": existing_user is None}}
        context.store.put_workspace(document)
    if existing_user is None:
        user_records.add(context, owner, account, keys, is_dedicated=True)
    if not has_repo:
        context.store.put_workspace(document)
    return document


def create_with_repo(
    context: Context, request: WorkspaceRequest, repo: Dict[str, Any], request_id: Optional[str]
) -> Dict[str, Any]:
    """Create a workspace and clone a repository into it; if the clone fails, the workspace is removed again."""
    with repo_creation.clone_request(context, **repo) as clone:
        return _create_and_clone(context, request, clone._replace(request_id=request_id))


def _create_and_clone(context: Context, request: WorkspaceRequest, clone: repo_creation.RepoRequest) -> Dict[str, Any]:
    name = request.name
    with context.one_at_a_time():
        document = create(context, request, has_repo=True)
        context.creating.add(name)
    try:
        repo_creation.create(context, name, clone)
        with context.one_at_a_time():
            return finish(context, document)
    except AgentError as error:
        with context.one_at_a_time():
            _undo(context, document, error)
        if error.is_pending:
            raise _cut_off(name) from error
        error.problem += f"; workspace {name!r} was removed again"
        raise
    finally:
        context.creating.discard(name)


def roll_back(
    context: Context, name: str, user: Optional[str], repo: Dict[str, Any], request_id: Optional[str]
) -> Dict[str, Any]:
    """Remove a workspace whose creation was interrupted during the clone; return it if it was ready already.

    CommandFailed when it was removed: nothing of the call is left.
    """
    with context.one_at_a_time():
        document = context.store.get_workspace(name)
        is_created_by_another_call = name in context.creating
        if document is None:
            # The helper may have created it and its user, before they were stored.
            remove_user = user is None and context.store.get_user(name) is None
            context.helper.call("workspace.remove", name=name, remove_user=remove_user)
            if remove_user:  # interrupted between the creation of the user and of the workspace
                context.helper.call("user.remove", name=name)
        elif CREATING in document and not is_created_by_another_call:
            _undo(context, document, None)
        else:
            stored_repo = context.store.get_repo(name, repo.get("name") or grammar.name_from_url(repo["url"]))
            if (
                stored_repo is not None
                and stored_repo["state"] == "ready"
                and repo_creation.is_of(stored_repo, request_id)
            ):
                return document
    raise _cut_off(name)


def check_created(document: Dict[str, Any]) -> None:
    """Raise InUse while the workspace's first repository is being cloned."""
    if CREATING in document:
        problem = f"workspace {document['name']!r} is being created: its repository is being cloned"
        raise InUse(problem, hint=f"try again; inv workspace.get {document['name']} shows its state")


def _cut_off(name: str) -> CommandFailed:
    text = f"creating workspace {name!r} was cut off; nothing of it is left"
    return CommandFailed(text, hint="try again", command="git clone", exit_code=None, stderr="")


def finish(context: Context, document: Dict[str, Any]) -> Dict[str, Any]:
    """Mark a pending workspace as ready, after its repository was cloned."""
    stored = context.store.get_workspace(document["name"])
    if stored is None or stored["id"] != document["id"]:
        raise NotFound(f"workspace {document['name']!r} was deleted meanwhile")
    stored = {**stored, "state": "ready"}
    del stored[CREATING]
    context.store.put_workspace(stored)
    return stored


def _undo(context: Context, document: Dict[str, Any], reason: Optional[AgentError]) -> None:
    """Remove a workspace whose clone failed, and a user that was created for it; not a later one of the same name.

    If it cannot be removed now, the error is pending: the removal is tried again.
    """
    name = document["name"]
    stored = context.store.get_workspace(name)
    if stored is None or stored["id"] != document["id"] or CREATING not in stored:
        return
    owner = context.store.get_user(stored["user"])
    remove_user = stored[CREATING]["made_user"] and (owner is None or owner["workspaces"] == [name])
    try:
        done = context.helper.call("workspace.remove", name=name, remove_user=remove_user)
    except AgentError as error:
        problem = f"{reason.problem}; " if reason else ""
        problem += f"workspace {name!r} could not be removed again yet: {error.problem}"
        error.problem = problem
        raise error.as_pending() from None
    if done["user_removed"]:
        context.store.remove_user(stored["user"])
    context.store.remove_workspace(name)
