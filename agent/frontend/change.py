"""One call that changes something: what it is about, and how it relates to another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Tuple

from agent.contract.method import Method
from agent.frontend.audit import TARGETS

Document = Dict[str, Any]


class Change(NamedTuple):
    """A call that changes something; `public` are the parameters that may be written down."""

    entry: Method
    params: Document
    public: Document

    @classmethod
    def of(cls, entry: Method, params: Document) -> Change:
        """Return the change that a call asks for."""
        entry = entry.for_call(params)
        return cls(entry, params, entry.public(params))

    @property
    def request_id(self) -> Optional[str]:
        """What its result is kept by."""
        found: Optional[str] = self.public.get("request_id")
        return found

    @property
    def digest(self) -> str:
        """Name the call by its content; keys, environment and standard input are not kept in clear."""
        text = json.dumps([self.entry.name, self.public], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def targets(self) -> FrozenSet[str]:
        """The names that it is about."""
        return frozenset(self.public[field] for field in TARGETS if isinstance(self.public.get(field), str))

    def is_repeated_by(self, other: Change) -> bool:
        """Tell whether another call asks for the same; one that is settled, not run again, only by its request id."""
        if self.entry is not other.entry:
            return False
        if self.entry.roll_back is not None:
            return self.request_id is not None and self.public == other.public
        return self.is_like(other)

    def is_like(self, other: Change) -> bool:
        """Tell whether another call has the same content, whatever its request id."""
        words, others = ({**one.public, "request_id": None} for one in (self, other))
        return self.entry is other.entry and words == others

    @property
    def subject(self) -> Tuple[str, Optional[str], Optional[str]]:
        """The one thing that it makes, changes or deletes: its noun, the workspace it is in, its name."""
        noun = self.entry.name.partition(".")[0]
        return noun, self.public.get("workspace"), self.public.get("name") or self.public.get("url")

    def replaces(self, earlier: Change) -> bool:
        """Tell whether nothing is left to be completed of an earlier change when this one is done."""
        if self.entry.decides:
            return (self.subject, self.entry.decides) == (earlier.subject, earlier.entry.decides)
        return self.subject in (earlier.subject, ("workspace", None, earlier.public.get("workspace")))
