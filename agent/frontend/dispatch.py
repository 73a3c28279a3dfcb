"""One call: find the method, check its parameters, run it. changes.py runs those that change something."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Dict, Iterable, Optional

from agent.contract.method import Method
from agent.contract.parameters import ParameterCheck
from agent.frontend.audit import Attempt, Audit
from agent.frontend.callers import Token
from agent.frontend.change import Change
from agent.frontend.changes import Changes
from agent.frontend.context import Context
from agent.frontend.runner import Runner
from agent.frontend.stream import Ticket, owner_of
from agent.shared.errors import AgentError, OutOfScope
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
        self._audit, self.context, self.forwarded_agents = audit, context, context.forwarded_agents
        self._methods: Dict[str, Method] = {entry.name: entry for entry in methods}
        components = context.contract.get("components", {})
        self._checks = {
            entry["name"]: ParameterCheck(entry["params"], components) for entry in context.contract["methods"]
        }
        self._runner = Runner(context)
        self._changes = Changes(context, audit, self._methods, self._runner)
        self._refusals = RateLimit()
        context.job_records.audit_to(audit)

    def call(
        self, name: str, params: Any, *, peer_uid: Optional[int], is_notification: bool = False,
        refusal: Optional[AgentError] = None, token: Optional[Token] = None,
    ) -> Any:  # fmt: skip
        """Return the method's result, or raise AgentError: `refusal`, if given. A notification changes nothing.

        With a token, only what it reaches is done.
        """
        entry = self._methods.get(name)
        if entry is None:
            raise MethodNotFound(f"no method {name[:64]!r}", hint="rpc.discover lists them")
        entry = entry.for_call(params)
        if token is not None:
            self._check_scope(token, entry, params, peer_uid)
        mark = token.mark if token else None
        if not entry.mutates:
            return self._look(entry, params, refusal, peer_uid, mark)
        attempt = self._changes.attempt(entry.name, params, peer_uid, mark)
        if is_notification:  # the caller would not learn the outcome, so nothing is done
            self._audit.note(attempt, NOTIFICATION)
            return None
        with self._changes.recorded(entry, attempt):
            if refusal is not None:
                raise refusal
            reply = self._changes.carry_out(Change.of(entry, self._checked(entry, params), mark), attempt)
        if "error" in reply:
            raise AgentError.from_dict(reply["error"])
        return reply["result"]

    def _check_scope(self, token: Token, entry: Method, params: Any, peer_uid: Optional[int]) -> None:
        """Raise OutOfScope for what a token does not reach; once a minute for each token there is a record of it."""
        try:
            token.check(entry, params)
        except OutOfScope as error:
            left_out = self._refusals.admit(token.id)
            if left_out is not None:
                attempt = Attempt(entry.name, params, peer_uid, more=left_out, token=token.mark)
                self._audit.note(attempt, error.kind)
            raise

    def _look(
        self, entry: Method, params: Any, refusal: Optional[AgentError], peer_uid: Optional[int],
        mark: Optional[Dict[str, str]],
    ) -> Any:  # fmt: skip
        """Run a method that changes nothing; if it is audited, its record is on disk before the reply."""
        attempt = self._changes.attempt(entry.name, params, peer_uid, mark)
        with self._changes.recorded(entry, attempt) if entry.is_audited else nullcontext():
            if refusal is not None:
                raise refusal
            result = self._runner.run(entry, entry.function, self._checked(entry, params))
        if entry.is_audited:
            self._changes.note(attempt, "ok")
        return result

    def take_ticket(self, token: str, peer_uid: int, holder: str = "") -> Optional[Ticket]:
        """Return what a stream's token opens, once; None also when the workspace was deleted or assigned meanwhile.

        `holder` is the id of the token of the workspace that the caller shows.
        """
        ticket = self.context.stream_tokens.take(token, peer_uid, holder)
        document = None if ticket is None else self.context.store.get_workspace(ticket.workspace)
        return ticket if ticket and document and owner_of(document) == ticket.owner else None

    def note_refused_peer(self, peer_uid: int) -> None:
        """Record a refused connection, and how many more there were: once a minute for each uid, ten times in all."""
        left_out = self._refusals.admit(peer_uid)
        if left_out is not None:
            self._audit.note(Attempt(CONNECT, {"name": "agent.sock"}, peer_uid, more=left_out), FORBIDDEN)

    def note_entry(self, attempt: Attempt, outcome: str) -> None:
        """Record who entered a workspace by the door, or was refused there."""
        self._audit.note(attempt, outcome)

    @property
    def changes(self) -> Changes:
        """The changes that it carries out."""
        return self._changes

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
