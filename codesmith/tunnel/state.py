"""The state of one endpoint, as the forwarder reports it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

CONNECTING, READY, DEGRADED, STOPPED = "connecting", "ready", "degraded", "stopped"


@dataclass(frozen=True)
class EndpointState:
    """One endpoint as `node.status` shows it; `since` is a Unix time, `counts` are for tests and `node.doctor`."""

    name: str
    registry: str
    host: str
    endpoint: str
    state: str
    reason: str
    since: float
    node_id: str
    agent_version: str
    key: str
    kind: str = ""
    hint: str = ""
    via: str = ""
    carrier: str = ""
    token_file: str = ""
    # Where its socket of tokens is served, if somebody asked for that.
    scoped: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EndpointState:
        """Return the state in a dictionary; unknown fields, of a newer forwarder, are ignored."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class ForwardState:
    """One background forward: `port` inside the workspace is 127.0.0.1:`local` here while its state is ready."""

    node: str
    registry: str
    workspace: str
    port: int
    local: int
    state: str
    reason: str
    since: float
    hint: str = ""

    @property
    def address(self) -> str:
        """Where it listens on this machine."""
        return f"127.0.0.1:{self.local}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the address as a dictionary for JSON."""
        return {**asdict(self), "address": self.address}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ForwardState:
        """Return the state in a dictionary; unknown fields, of a newer forwarder, are ignored."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})
