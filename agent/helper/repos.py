"""Repositories in workspaces, as far as root removes them: git itself runs in the workspace's runtime."""

from __future__ import annotations

from typing import Any

from agent.git import grammar
from agent.helper.ledger.ledger import Ledger
from agent.helper.trees import mounts, trees
from agent.shared.errors import NotFound
from agent.shared.names import WORKSPACES, parse_name, path_of


def roll_back(ledger: Ledger, workspace: Any, name: Any, token: Any) -> bool:
    """Remove the files of an unfinished init or clone, whose job has ended; tell whether it had made code/NAME.

    The caller holds the ledger's lock.
    """
    workspace, name, token = parse_name(workspace, "workspace"), parse_name(name), grammar.parse_token(token)
    owner = ledger.login(workspace)
    if ledger.workspace(workspace) is None or owner is None:
        return False
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), grammar.temporary_name(token))
    mark = trees.read_inside(WORKSPACES, workspace, owner.uid, ("code", name, ".git"), grammar.MARK)
    return bool(mark.strip() == token.encode())


def remove(ledger: Ledger, workspace: Any, name: Any) -> None:
    """Remove code/NAME of a workspace, whatever it is and however deep. The caller holds the ledger's lock."""
    workspace, name = parse_name(workspace, "workspace"), parse_name(name)
    record, owner = ledger.workspace(workspace), ledger.login(workspace)
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    mounts.refuse_mounts(f"{path_of(workspace)}/code/{name}")
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), name)
