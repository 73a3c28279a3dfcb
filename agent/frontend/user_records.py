"""The users in the front end's store."""

from __future__ import annotations

from typing import Any, Dict, List

from agent.frontend.context import Context
from agent.shared import ownership
from agent.shared.clock import now
from agent.shared.errors import AgentError, NotFound
from agent.shared.names import login_of


def add(context: Context, name: str, account: Dict[str, Any], keys: List[str], *, is_dedicated: bool) -> Dict[str, Any]:
    """Store a user for an account that the helper created; return its document. A dedicated one has one workspace."""
    document: Dict[str, Any] = {
        "name": name,
        **account,
        "state": "active",
        "keys": keys,
        "created_at": now(),
        "dedicated": is_dedicated,
    }
    context.store.put_user(document)
    return {**document, "workspaces": []}


def give_keys(context: Context, name: str, keys: List[str]) -> Dict[str, Any]:
    """Give a new user its keys; return what they change of its account. An error is pending: the account is there."""
    try:
        account: Dict[str, Any] = context.helper.call("user.put_keys", name=name, keys=keys) if keys else {}
    except AgentError as error:
        raise error.as_pending() from None
    return account


def find(context: Context, name: str) -> Dict[str, Any]:
    """Return the stored document of a user; NotFound when the store has none."""
    document = context.store.get_user(name)
    if document is None:
        check_not_workspace(context, name)
        if ownership.is_user_on_node(name):
            problem = f"the agent's store does not know user {name!r}, but {login_of(name)} is on the node"
            raise NotFound(problem, hint=f"inv node.health; inv user.delete {name} --yes removes it")
        raise NotFound(f"no user {name!r} on this node", hint="inv user.list")
    return document


def check_not_workspace(context: Context, name: str) -> None:
    """Raise NotFound when a name is that of a workspace of another user: its login is no user's."""
    workspace = context.store.get_workspace(name)
    if workspace is not None and workspace["user"] != name:
        problem = f"no user {name!r} on this node: {name!r} is a workspace of user {workspace['user']!r}"
        raise NotFound(problem, hint=f"inv workspace.get {name}")
