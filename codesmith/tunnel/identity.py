"""The node ids that this operator has met: a name must always lead to the same node."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import WrongNode
from codesmith.paths import ensure_private, state_dir, writing

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node


def identity_path(node: Node) -> Path:
    """Return the file that holds the node's id; it depends only on name and registry, not on host or port."""
    digest = hashlib.sha256(f"{node.registry}\0{node.name}".encode()).hexdigest()[:16]
    return ensure_private(state_dir() / "known_nodes") / f"{digest}.json"


def recall(node: Node) -> str:
    """Return the remembered node id; "" if there is none."""
    try:
        data = json.loads(identity_path(node).read_text())
    except (FileNotFoundError, ValueError):
        return ""
    return str(data.get("node_id", "")) if isinstance(data, dict) else ""


def remember(node: Node, node_id: str) -> None:
    """Remember the node id for the name, in place of any earlier one."""
    path = identity_path(node)
    text = json.dumps({"name": node.name, "registry": str(node.registry), "node_id": node_id}) + "\n"
    temporary = path.with_suffix(f".{os.getpid()}")
    with writing(path):
        temporary.write_text(text)
        temporary.replace(path)


def forget(node: Node) -> bool:
    """Forget the node id of the name; return False if there was none."""
    try:
        identity_path(node).unlink()
    except FileNotFoundError:
        return False
    return True


def check(node: Node, node_id: str) -> None:
    """Remember the id of the first meeting; later raise WrongNode for any other id."""
    known = recall(node)
    if not known:
        remember(node, node_id)
    elif known != node_id:
        raise WrongNode(
            f"{node.name} is another node than before: its id is {node_id}, not {known}",
            hint=f"if it was reinstalled on purpose, forget the old one: rm {identity_path(node)}",
        )
