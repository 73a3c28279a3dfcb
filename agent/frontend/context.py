"""What a method has at hand: the store, the way to the helper, and the identity of node and instance."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Set

from agent.frontend.agent_forwarding import ForwardedAgents
from agent.frontend.audit import PATH as AUDIT_FILE
from agent.frontend.helper_client import Helper
from agent.frontend.store import Store
from agent.shared.clock import now
from agent.shared.errors import WaitedTooLong

LOCK_WAIT_S = 60.0
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
    # Workspaces whose first repository is being cloned by a call of this process.
    creating: Set[str] = field(default_factory=set)
    # Workspaces that a call of this process is giving to another user.
    assigning: Dict[str, object] = field(default_factory=dict)
    forwarded_agents: ForwardedAgents = field(default_factory=ForwardedAgents)
    _changing: Any = field(default_factory=threading.RLock)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Hold off other changes; WaitedTooLong when they hold us off for long. May be held twice by one thread."""
        if not self._changing.acquire(timeout=LOCK_WAIT_S):
            raise WaitedTooLong("other changes on this node take too long", hint="try again")
        try:
            yield
        finally:
            self._changing.release()
