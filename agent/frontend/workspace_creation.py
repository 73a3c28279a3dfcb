"""The beginning of a workspace: made whole; or made, and pending until its first repository is cloned; or gone."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from agent.frontend import repo_creation, user_records
from agent.frontend.context import Context
from agent.git import grammar
from agent.shared import sshkeys
from agent.shared.errors import AgentError, AlreadyExists, CommandFailed, Disabled, InUse, InvalidParams, NotFound

# In the stored document of a workspace while its first repository is being cloned.
CREATING = "founding"


class WorkspaceRequest(NamedTuple):
    """A workspace as it was asked for; without `user` a dedicated one of its name owns it."""

    name: str
    user: Optional[str]
    ssh_keys: Optional[List[str]]
    labels: Dict[str, str]


def make(context: Context, wanted: WorkspaceRequest, *, is_creating: bool = False) -> Dict[str, Any]:
    """Make a workspace, whole, and return its document.

    One that `is_founding` stays pending, and knows what to remove if it comes to nothing.
    """
    name, user, ssh_keys, labels = wanted
    existing = context.store.get_workspace(name)
    if existing is not None and CREATING in existing and name not in context.creating:
        _undo(context, existing, None)  # what a call that was cut off left
        context.store.flush()
    elif existing is not None:
        check_created(existing)
        raise AlreadyExists(f"workspace {name!r} exists", hint=f"inv workspace.get {name}")
    owner = user or name
    found = context.store.get_user(owner)
    if found is None and user is not None:
        raise NotFound(f"no user {user!r} on this node", hint=f"inv user.create {user}")
    if found is not None and ssh_keys is not None:
        raise InvalidParams.of("ssh_keys", f"user {owner!r} exists and has its own keys")
    if found is not None and found["state"] != "active":
        raise Disabled.user(owner)
    keys = sshkeys.read_keys(ssh_keys or [])
    dedicated = {"ssh_keys": keys} if found is None else None
    made = context.helper.call("workspace.ensure", name=name, user=owner, dedicated=dedicated)
    account, warnings = made.pop("account"), made.pop("warnings", [])
    document: Dict[str, Any] = {**made, "labels": labels, "repos": [], "opened_at": None}
    if is_creating:  # before its user: what is cut off here is found again by the workspace
        document = {**document, "state": "pending", CREATING: {"made_user": found is None}}
        context.store.put_workspace(document)
    if found is None:
        user_records.remember(context, owner, account, keys, is_dedicated=True)
    if not is_creating:
        context.store.put_workspace(document)
    return {**document, "warnings": warnings}


def make_with_repo(
    context: Context, wanted: WorkspaceRequest, repo: Dict[str, Any], request_id: Optional[str]
) -> Dict[str, Any]:
    """Make a workspace and clone into it; without the repository there is no workspace either."""
    with repo_creation.ordered_clone(context, **repo) as order:
        return _make_with(context, wanted, order._replace(request_id=request_id))


def _make_with(context: Context, wanted: WorkspaceRequest, order: repo_creation.Order) -> Dict[str, Any]:
    name = wanted.name
    with context.one_at_a_time():
        document = make(context, wanted, is_creating=True)
        context.creating.add(name)
    try:
        repo_creation.make(context, name, order)
        with context.one_at_a_time():
            return {**_finish(context, document), "warnings": document["warnings"]}
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
    """End a creation that was cut off while it cloned: the workspace goes, unless it was ready already."""
    with context.one_at_a_time():
        document = context.store.get_workspace(name)
        is_another = name in context.creating
        if document is None:
            # The helper may have made it, and its user, just before.
            remove_user = user is None and context.store.get_user(name) is None
            context.helper.call("workspace.remove", name=name, remove_user=remove_user)
            if remove_user:  # made, and cut off before its workspace was on record
                context.helper.call("user.remove", name=name)
        elif CREATING in document and not is_another:
            _undo(context, document, None)
        else:
            found = context.store.get_repo(name, repo.get("name") or grammar.name_of(repo["url"]))
            if found is not None and found["state"] == "ready" and repo_creation.is_of(found, request_id):
                return document
    raise _cut_off(name)


def check_created(document: Dict[str, Any]) -> None:
    """Raise InUse while the workspace's first repository is being cloned."""
    if CREATING in document:
        problem = f"workspace {document['name']!r} is being made: its repository is being cloned"
        raise InUse(problem, hint=f"try again; inv workspace.get {document['name']} shows its state")


def _cut_off(name: str) -> CommandFailed:
    text = f"making workspace {name!r} was cut off; nothing of it is left"
    return CommandFailed(text, hint="try again", command="git clone", exit_code=None, stderr="")


def _finish(context: Context, document: Dict[str, Any]) -> Dict[str, Any]:
    """Make a pending workspace ready: its repository is there."""
    found = context.store.get_workspace(document["name"])
    if found is None or found["id"] != document["id"]:
        raise NotFound(f"workspace {document['name']!r} was deleted meanwhile")
    found = {**found, "state": "ready"}
    del found[CREATING]
    context.store.put_workspace(found)
    return found


def _undo(context: Context, document: Dict[str, Any], reason: Optional[AgentError]) -> None:
    """Remove a workspace that came to nothing, and a user that was made for it; not one that came after it.

    What cannot be removed now stays pending, and is taken up again.
    """
    name = document["name"]
    found = context.store.get_workspace(name)
    if found is None or found["id"] != document["id"] or CREATING not in found:
        return
    owner = context.store.get_user(found["user"])
    remove_user = found[CREATING]["made_user"] and (owner is None or owner["workspaces"] == [name])
    try:
        done = context.helper.call("workspace.remove", name=name, remove_user=remove_user)
    except AgentError as error:
        problem = f"{reason.problem}; " if reason else ""
        problem += f"workspace {name!r} could not be removed again yet: {error.problem}"
        error.problem = problem
        raise error.as_pending() from None
    if done["user_removed"]:
        context.store.remove_user(found["user"])
    context.store.remove_workspace(name)
