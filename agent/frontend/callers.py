"""Who calls: a peer of the operators' socket, or whoever shows a token."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Dict, FrozenSet, NamedTuple, Optional

from agent.contract.method import Method
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.audit import login_of_uid
from agent.shared.errors import OutOfScope


class Token(NamedTuple):
    """A valid token that a request has shown, and what it reaches: some methods of one workspace."""

    id: str
    label: str
    workspace: str
    methods: FrozenSet[str]

    @property
    def mark(self) -> Dict[str, str]:
        """What audit records show of it."""
        return {"id": self.id, "label": self.label}

    def check(self, entry: Method, params: Any) -> None:
        """Raise OutOfScope unless the method is one of the token's, and is called for its workspace."""
        if entry.name not in self.methods:
            raise OutOfScope(f"token {self.id} does not reach {entry.name}", hint="rpc.discover lists what it reaches")
        named = params.get(entry.workspace_parameter) if isinstance(params, dict) else None
        if entry.workspace_parameter and named is not None and named != self.workspace:
            raise OutOfScope(f"token {self.id} reaches workspace {self.workspace!r} alone")


# The token of the call that this thread carries out; None for an operator's.
caller_token: ContextVar[Optional[Token]] = ContextVar("caller_token", default=None)


def name_of_caller() -> Optional[str]:
    """Return whose call this thread carries out: token:ID, or a Unix login; None for a uid without one."""
    token = caller_token.get()
    return login_of_uid(caller_uid.get()) if token is None else f"token:{token.id}"
