"""What a node's own contract says of its methods: whether one changes something, can be repeated, takes long."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


@dataclass(frozen=True)
class Method:
    """One method, as much of it as the server needs; the page reads the whole document itself."""

    mutates: bool
    takes_request_id: bool
    limit_s: float

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Method:
        """Read one entry of an OpenRPC document; a method that does not say so may change something."""
        params = {param.get("name"): param.get("schema", {}) for param in entry.get("params", [])}
        limit_s = params.get("timeout_s", {}).get("x-default-s", 0.0)
        if "repo" in params:  # a clone on the way
            limit_s = 600.0
        return cls(bool(entry.get("x-mutates", True)), "request_id" in params, float(limit_s))


class Contracts:
    """The contracts of all nodes, read once per build of the agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Method]] = {}

    def of(self, client: Client) -> dict[str, Method]:
        """Return the methods of a node by name."""
        version = client.call("node.version")
        # An agent that runs from source has no build; its node id tells it from others.
        key = str(version.get("build") or version.get("node_id"))
        with self._lock:
            if key in self._known:
                return self._known[key]
        methods = {entry["name"]: Method.of(entry) for entry in client.discover().get("methods", [])}
        with self._lock:
            self._known[key] = methods
        return methods
