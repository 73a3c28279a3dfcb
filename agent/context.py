"""What a method has at hand: the store, the way to the helper, and the identity of node and instance."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict

from agent.audit import PATH as AUDIT_FILE
from agent.clock import now
from agent.privileged import Helper
from agent.store import Store

NODE_FILE = "/etc/codesmith/node.json"


def read_node_id(path: str = NODE_FILE) -> str:
    """Return the node id that prepare wrote; empty when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file)["node_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_build(path: str = "") -> str:
    """Return the SHA-256 of the shipped file this program runs from; empty when run from source."""
    try:
        with open(path or sys.path[0], "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True)
class Context:
    """One for the life of the front end."""

    store: Store
    helper: Helper
    contract: Dict[str, Any]
    audit_file: str = AUDIT_FILE
    node_id: str = field(default_factory=read_node_id)
    build: str = field(default_factory=read_build)
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: str = field(default_factory=now)
