"""One call, from its parameters to its result: find the method, check, run. Changes go by changes.py."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional

from agent.contract.method import Method
from agent.contract.parameters import ParameterCheck
from agent.frontend.audit import Attempt, Audit
from agent.frontend.change import Change
from agent.frontend.changes import Changes
from agent.frontend.context import Context
from agent.frontend.rate import Rate
from agent.frontend.runner import Runner
from agent.shared.errors import AgentError

# What the audit record says of a change without an id; and of a connection from somebody who may not call.
NOTIFICATION = "invalid_request"
CONNECT, FORBIDDEN = "connect", "forbidden"


class MethodNotFound(AgentError):
    """The contract has no such method."""

    code, kind = -32601, "method_not_found"


class Dispatcher:
    """Calls methods of the contract; safe to use from many threads."""

    def __init__(self, methods: Iterable[Method], context: Context, audit: Audit) -> None:
        self._audit, self.forwarded_agents = audit, context.forwarded_agents
        self._methods: Dict[str, Method] = {entry.name: entry for entry in methods}
        self._checks = {entry["name"]: ParameterCheck(entry["params"]) for entry in context.contract["methods"]}
        self._runner = Runner(context)
        self._changes = Changes(context, audit, self._methods, self._runner)
        self._refused = Rate()

    def call(
        self, name: str, params: Any, *, peer_uid: Optional[int], is_notification: bool = False,
        refusal: Optional[AgentError] = None,
    ) -> Any:  # fmt: skip
        """Return the method's result or raise an AgentError, `refusal` if given. A notification changes nothing."""
        entry = self._methods.get(name)
        if entry is None:
            raise MethodNotFound(f"no method {name[:64]!r}", hint="rpc.discover lists them")
        entry = entry.for_call(params)
        if not entry.mutates:
            if refusal is not None:
                raise refusal
            return self._runner.run(entry, entry.function, self._checked(entry, params))
        attempt = Attempt(entry.name, params, peer_uid)
        if is_notification:  # nobody would be told what came of it
            self._audit.note(attempt, NOTIFICATION)
            return None
        with self._changes.recorded(entry, attempt):
            if refusal is not None:
                raise refusal
            reply = self._changes.carry_out(Change.of(entry, self._checked(entry, params)), attempt)
        if "error" in reply:
            raise AgentError.from_dict(reply["error"])
        return reply["result"]

    def note_refused_peer(self, peer_uid: int) -> None:
        """Record a connection that was refused, and how many more there were: one a minute of each uid, ten of all."""
        left_out = self._refused.admit(peer_uid)
        if left_out is not None:
            self._audit.note(Attempt(CONNECT, {"name": "agent.sock"}, peer_uid, more=left_out), FORBIDDEN)

    def resume(self) -> None:
        """Resume what was begun and not ended."""
        self._changes.resume_all()

    def _checked(self, entry: Method, params: Any) -> Dict[str, Any]:
        try:
            return self._checks[entry.name](params)
        except AgentError:
            raise
        except Exception as error:  # the RPC border
            raise self._runner.as_error(entry, error) from error
