"""What the forwarder says about one endpoint, and how an error crosses from its process to another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from codesmith.errors import AboutSecret, CodeSmithError, by_kind

CONNECTING, READY, DEGRADED, STOPPED = "connecting", "ready", "degraded", "stopped"


@dataclass(frozen=True)
class EndpointState:
    """One endpoint as `node.status` shows it; `counts` are for tests and `node.doctor`."""

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
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EndpointState:
        """Read plain data; fields of a newer forwarder are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def error_to_dict(error: CodeSmithError) -> dict[str, Any]:
    """Return the error as `{"kind", "problem", "hint"}`; the kind is the nearest class that every process knows.

    One about a secret also names that: `{"secret": {...}}`.
    """
    known = next(one for one in type(error).__mro__ if one.__module__ == CodeSmithError.__module__)
    data = {"kind": known.__name__, "problem": error.problem, "hint": error.hint}
    return {**data, "secret": error.secret} if isinstance(error, AboutSecret) else data


def error_from_dict(data: dict[str, Any]) -> CodeSmithError:
    """Return the error that `error_to_dict` wrote, with its own class."""
    error = by_kind(data.get("kind", ""))(data.get("problem", "unknown error"), hint=data.get("hint", ""))
    if isinstance(error, AboutSecret):
        error.secret = data.get("secret", {})
    return error


def plain(error: CodeSmithError) -> CodeSmithError:
    """Return the error without its traceback: that would keep channels alive, and grow with each thread raising it."""
    return error_from_dict(error_to_dict(error))
