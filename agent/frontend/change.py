"""One call that changes something: what it names, and how it relates to another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Tuple

from agent.contract.method import Method
from agent.frontend.audit import TARGETS

Document = Dict[str, Any]


class Change(NamedTuple):
    """A call that changes something; `public` are the parameters that may be stored."""

    entry: Method
    params: Document
    public: Document
    # The id of the token that its caller showed; "" for an operator.
    token: str = ""

    @classmethod
    def of(cls, entry: Method, params: Document, token: Optional[Dict[str, str]] = None) -> Change:
        """Return the change that a call asks for; `token` is the mark of the one that its caller showed."""
        entry = entry.for_call(params)
        return cls(entry, params, entry.public(params), token["id"] if token else "")

    @property
    def request_id(self) -> Optional[str]:
        """The key by which its result is kept; None when the caller gave none. Those of a token are its own."""
        request_id: Optional[str] = self.public.get("request_id")
        return f"{self.token}/{request_id}" if self.token and request_id is not None else request_id

    @property
    def digest(self) -> str:
        """A hash of method and public parameters, so that keys, environment and input are not stored in clear."""
        text = json.dumps([self.entry.name, self.public], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def targets(self) -> FrozenSet[str]:
        """The users and workspaces that it names."""
        return frozenset(self.public[field] for field in TARGETS if isinstance(self.public.get(field), str))

    def is_repeated_by(self, other: Change) -> bool:
        """Return whether another call asks for the same. A change that is rolled back needs the same request_id too."""
        if self.entry is not other.entry:
            return False
        if self.entry.roll_back is not None:
            return self.request_id is not None and (self.public, self.token) == (other.public, other.token)
        return self.is_like(other)

    def is_like(self, other: Change) -> bool:
        """Return whether another call has the same content, whatever its request_id."""
        mine, others = ({**one.public, "request_id": None} for one in (self, other))
        return self.entry is other.entry and mine == others

    @property
    def subject(self) -> Tuple[str, Optional[str], Optional[str]]:
        """What it creates, changes or deletes: its namespace, the workspace it is in, its name."""
        noun = self.entry.name.partition(".")[0]
        return noun, self.public.get("workspace"), self.public.get("name") or self.public.get("url")

    def supersedes(self, earlier: Change) -> bool:
        """Return whether a pending earlier change need not be completed once this one has succeeded."""
        if self.entry.decides:
            return (self.subject, self._decided) == (earlier.subject, earlier._decided)
        return self.subject in (earlier.subject, ("workspace", None, earlier.public.get("workspace")))

    @property
    def _decided(self) -> str:
        """The part of its subject that it sets."""
        return self.entry.decides.format_map(self.public)
