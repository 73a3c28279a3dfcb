"""Carries out one request for files, in a fork of the workspace's supervisor; the request and its answer lie in memory
that the front end has made.

The front end does not trust the answer: the login that this runs as may change it.
"""

from __future__ import annotations

import json
import os
import resource
from importlib import import_module
from typing import Any, Dict, Optional

from agent.files.errors import Refused
from agent.files.places import Tree

# Beside what the supervisor has already.
MEMORY_BYTES_MAX = 512 << 20
# Module and function of each; every request is a new process, so it imports no more than it needs.
ACTIONS = {
    "edit": ("writing", "edit"),
    "list": ("entries", "list_"),
    "make_directory": ("moving", "make_directory"),
    "move": ("moving", "move"),
    "read": ("reading", "read"),
    "remove": ("moving", "remove"),
    "search": ("search", "search"),
    "stat": ("entries", "stat_"),
    "write": ("writing", "write"),
}


def run(_: Dict[str, Any], descriptor: Optional[int]) -> None:
    """Carry out the request that lies in `descriptor`, and put the answer in its place."""
    if descriptor is None:
        raise ValueError("there is no request")
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bound = MEMORY_BYTES_MAX if allowed == resource.RLIM_INFINITY else min(MEMORY_BYTES_MAX, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    with open(descriptor, "r+b", closefd=False) as memory:
        request = json.load(memory)
        text = json.dumps(answer(request, "."), separators=(",", ":"))
        memory.seek(0)
        memory.truncate()
        memory.write(text.encode())


def answer(request: Dict[str, Any], directory: str) -> Dict[str, Any]:
    """Return the answer to a request: {result}, or {refused, message} and what belongs to it."""
    try:
        # Links may name it by its path, or by where that leads.
        with Tree(directory, request["root"], os.path.realpath(directory)) as tree:
            module, function = ACTIONS[request["action"]]
            return {"result": getattr(import_module(f"agent.files.{module}"), function)(tree, request)}
    except Refused as refusal:
        return refusal.to_dict()
    except MemoryError:
        return Refused("memory", "there is not enough memory for it").to_dict()
