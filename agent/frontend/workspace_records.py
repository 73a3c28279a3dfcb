"""The workspaces in the front end's store."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from agent.frontend import user_records, workspace_creation
from agent.frontend.context import Context
from agent.shared import ownership
from agent.shared.errors import Disabled, NotFound
from agent.shared.names import path_of


def find(context: Context, name: str) -> Dict[str, Any]:
    """Return the stored document of a workspace; NotFound when the store has none."""
    document = context.store.get_workspace(name)
    if document is None and ownership.is_workspace_on_node(name):
        problem = f"the agent's store does not know workspace {name!r}, but {path_of(name)} is on the node"
        raise NotFound(problem, hint=f"inv node.health; inv workspace.delete {name} --yes removes it")
    if document is None:
        raise NotFound(f"no workspace {name!r} on this node", hint="inv workspace.list")
    return document


def find_managed(context: Context, name: str) -> Dict[str, Any]:
    """Return the stored document of a workspace; NotFound also when its directory is not the one CodeSmith created."""
    document = find(context, name)
    if not ownership.is_workspace(document):
        problem = f"the directory {path_of(name)} is not the one that CodeSmith made"
        raise NotFound(problem, hint=f"on the node: ls -ld {path_of(name)}")
    return document


def list_managed(context: Context, user: Optional[str] = None) -> Iterator[Dict[str, Any]]:
    """Yield the stored documents of all workspaces, or of one user's, whose directories CodeSmith made or are gone."""
    return (document for document in context.store.list_workspaces(user) if ownership.is_workspace(document))


def find_ready(context: Context, name: str) -> Dict[str, Any]:
    """Return the document of a workspace that can be entered; InUse while it is pending, Disabled with its owner."""
    document = find(context, name)
    workspace_creation.check_created(document)
    owner = user_records.find(context, document["user"])
    if owner["state"] != "active":
        raise Disabled.user(owner["name"])
    return document
