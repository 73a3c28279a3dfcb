"""One thing that a prepare would do, in words for people and in orders for the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """`kind` is stable: ledger, package, group, user, member, directory, node, release, unit, link, reload,
    enable, service.

    `order` is what node/apply.py carries out.
    """

    kind: str
    name: str
    text: str
    before: str
    after: str
    order: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, str]:
        """Return the part for people and programs, without the order."""
        return {"kind": self.kind, "name": self.name, "text": self.text, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class StepResult:
    """How one step went on the node."""

    step: Step
    ok: bool
    seconds: float
    message: str = ""
