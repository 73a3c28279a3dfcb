"""One step of a plan: text for people, an order for the node."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING = "missing"
# Stable words for programs.
KINDS = (
    "directory", "door", "enable", "file", "group", "ledger", "link", "login", "member", "node", "package", "program",
    "prune", "release", "reload", "resident", "service", "uids", "unit", "user",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One step: `kind` is one of KINDS, `before` and `after` are what the node has and will have.

    on_node/apply.py carries out `order`.
    """

    kind: str
    name: str
    text: str
    before: str
    after: str
    order: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, str]:
        """Return it for people and programs, without the order."""
        return {"kind": self.kind, "name": self.name, "text": self.text, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class StepResult:
    """How one step went on the node."""

    step: Step
    ok: bool
    seconds: float
    message: str = ""


def describe(there: Mapping[str, Any] | None) -> str:
    """Describe a path in a few words: mode, owner, checksum, link target; "missing" for None."""
    if there is None:
        return MISSING
    if there["type"] == "link":
        return f"link to {there['target']}"
    short = f" {there['sha256'][:12]}" if there["type"] == "file" else ""
    acl = " with an access list" if there.get("acl") else ""
    differs = f", {', '.join(there['differs'])}" if there.get("differs") else ""
    return f"{there['mode']:04o} {there['owner']}:{there['group']}{short}{acl}{differs}"


def write_order(path: str, text: str) -> dict[str, Any]:
    """Return the order to write a file: 0644 root:root."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"do": "write", "path": path, "text": text, "sha256": digest, "mode": 0o644}
