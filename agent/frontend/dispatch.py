"""One call: find the method, check its parameters, run it. changes.py runs those that change something."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional

from agent.contract.method import Method
from agent.contract.parameters import ParameterCheck
from agent.frontend.audit import Attempt, Audit
from agent.frontend.change import Change
from agent.frontend.changes import Changes
from agent.frontend.context import Context
from agent.frontend.runner import Runner
from agent.shared.errors import AgentError
from agent.shared.rate_limit import RateLimit

# The audit outcome of a change without an id; method and outcome of a refused connection.
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
        self._refusals = RateLimit()

    def call(
        self, name: str, params: Any, *, peer_uid: Optional[int], is_notification: bool = False,
        refusal: Optional[AgentError] = None,
    ) -> Any:  # fmt: skip
        """Return the method's result, or raise AgentError: `refusal`, if given. A notification changes nothing."""
        entry = self._methods.get(name)
        if entry is None:
            raise MethodNotFound(f"no method {name[:64]!r}", hint="rpc.discover lists them")
        entry = entry.for_call(params)
        if not entry.mutates:
            if refusal is not None:
                raise refusal
            return self._runner.run(entry, entry.function, self._checked(entry, params))
        attempt = Attempt(entry.name, params, peer_uid)
        if is_notification:  # the caller would not learn the outcome, so nothing is done
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
        """Record a refused connection, and how many more there were: once a minute for each uid, ten times in all."""
        left_out = self._refusals.admit(peer_uid)
        if left_out is not None:
            self._audit.note(Attempt(CONNECT, {"name": "agent.sock"}, peer_uid, more=left_out), FORBIDDEN)

    def resume(self) -> None:
        """Resume all pending changes."""
        self._changes.resume_all()

    def _checked(self, entry: Method, params: Any) -> Dict[str, Any]:
        try:
            return self._checks[entry.name](params)
        except AgentError:
            raise
        except Exception as error:  # the RPC border
            raise self._runner.as_error(entry, error) from error
