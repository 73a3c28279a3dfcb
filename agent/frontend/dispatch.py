"""One call, from its parameters to its result: check, carry out, record. Changes go by the journal."""

from __future__ import annotations

import sqlite3
import sys
import threading
import traceback
import uuid
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

from agent.contract.method import Method
from agent.contract.parameters import ParameterCheck
from agent.frontend.audit import Attempt, Audit
from agent.frontend.changes import Change, Changes
from agent.frontend.context import LOCK_WAIT_S, Context
from agent.frontend.jsonrpc import Records
from agent.frontend.rate import Rate
from agent.shared.database import as_error
from agent.shared.errors import AgentError, InUse, ReadOnly

# What the audit record says of a change without an id; and of a connection from somebody who may not call.
NOTIFICATION = "invalid_request"
CONNECT, FORBIDDEN = "connect", "forbidden"


class MethodNotFound(AgentError):
    """The contract has no such method."""

    code, kind = -32601, "method_not_found"


class InternalError(AgentError):
    """A bug of ours: the traceback stays in the log, the caller gets a reference to it."""

    code, kind = -32603, "internal"
    is_pending = True

    @classmethod
    def by(cls, name: str) -> InternalError:
        """Log the exception that is being handled and make the error that refers to it."""
        reference = uuid.uuid4().hex[:12]
        print(f"internal error {reference} in {name}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return cls(f"{name} failed inside the agent", reference=reference, hint="inv node.logs")


class Dispatcher:
    """Calls methods of the contract; safe to use from many threads."""

    def __init__(self, methods: Iterable[Method], context: Context, audit: Audit) -> None:
        self._context, self._audit, self.forwarded_agents = context, audit, context.forwarded_agents
        self._methods: Dict[str, Method] = {entry.name: entry for entry in methods}
        self._checks = {entry["name"]: ParameterCheck(entry["params"]) for entry in context.contract["methods"]}
        self._changes = Changes(context, audit, self._methods, self._run)
        self._running, self._strangers = KeyedLocks(), Rate()

    def call(
        self, name: str, params: Any, *, peer_uid: Optional[int], is_notification: bool = False,
        refusal: Optional[AgentError] = None,
    ) -> Any:  # fmt: skip
        """Return the method's result or raise an AgentError, `refusal` if given. A notification changes nothing."""
        entry = self._methods.get(name)
        if entry is None:
            raise MethodNotFound(f"no method {name[:64]!r}", hint="rpc.discover lists them")
        entry = entry.for_call(params)
        if entry.mutates and is_notification:  # nobody would be told what came of it
            self._audit.note(Attempt(entry.name, params, peer_uid), NOTIFICATION)
            return None
        if entry.mutates:
            return self._change(entry, params, peer_uid, refusal)
        try:
            if refusal is not None:
                raise refusal
            return self._run(entry, entry.function, self._checks[name](params))
        except AgentError:
            raise
        except Exception as error:  # the RPC border: log, answer with a reference
            raise InternalError.by(name) from error

    def note_stranger(self, peer_uid: int) -> None:
        """Record a connection that was refused, and how many more there were: one a minute of each uid, ten of all."""
        left_out = self._strangers.admit(peer_uid)
        if left_out is not None:
            self._audit.note(Attempt(CONNECT, {"name": "agent.sock"}, peer_uid, more=left_out), FORBIDDEN)

    def resume(self) -> None:
        """Take up what was begun and not ended."""
        self._changes.resume_all()

    def _change(self, entry: Method, params: Any, peer_uid: Optional[int], refusal: Optional[AgentError]) -> Any:
        attempt, reply = Attempt(entry.name, params, peer_uid), None
        try:
            if refusal is not None:
                raise refusal
            change = Change.of(entry, self._checks[entry.name](params))
            reply = self._replied(change, attempt)
        except AgentError as error:
            self._changes.note(attempt, error.kind)
            raise
        except sqlite3.Error as error:
            problem = self._told(entry, error)
            self._changes.note(attempt, problem.kind)
            raise problem from error
        except Exception as error:  # the RPC border: log, answer with a reference
            self._changes.note(attempt, InternalError.kind)
            raise InternalError.by(entry.name) from error
        if "error" in reply:
            raise AgentError.from_dict(reply["error"])
        return reply["result"]

    def _replied(self, change: Change, attempt: Attempt) -> Dict[str, Any]:
        """Return the first reply of this request id, or carry the change out."""
        if change.request_id is None:
            return self._carry_out(change, attempt)
        with self._running.hold(change.request_id):
            return self._changes.earlier_reply(change, attempt) or self._carry_out(change, attempt)

    def _carry_out(self, change: Change, attempt: Attempt) -> Dict[str, Any]:
        changes = self._changes
        return (changes.carry_out if change.entry.is_resumable else changes.carry_out_once)(change, attempt)

    def _run(self, entry: Method, function: Callable[..., Any], params: Dict[str, Any]) -> Any:
        try:
            result = function(self._context, **params)
            return Records(result) if isinstance(result, Iterator) else result
        except AgentError:
            raise
        except sqlite3.Error as error:
            problem = self._told(entry, error)
            raise (problem.as_pending() if entry.mutates else problem) from error
        except Exception as error:  # the RPC border, and half-way through a change the journal must know it as such
            raise InternalError.by(entry.name) from error

    def _told(self, entry: Method, error: sqlite3.Error) -> AgentError:
        """Return what SQLite says as an error of the contract: a full disk, or a damaged store."""
        store = self._context.store
        if isinstance(error, sqlite3.OperationalError):
            return as_error(error, store.path)
        if isinstance(error, sqlite3.DatabaseError):
            store.damage = store.damage or str(error)
            return ReadOnly(f"{entry.name} failed: the agent's store is damaged: {error}", hint="inv node.health")
        return InternalError.by(entry.name)


class KeyedLocks:
    """One lock per key, gone when nobody holds it: two calls with one request id run one after the other."""

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._held: set[str] = set()

    def hold(self, key: str) -> _Held:
        """Return a context manager that holds the key."""
        return _Held(self, key)

    def acquire(self, key: str) -> None:
        """Wait until nobody holds the key, then hold it."""
        with self._guard:
            if not self._guard.wait_for(lambda: key not in self._held, timeout=LOCK_WAIT_S):
                raise InUse(
                    f"a call with request_id {key!r} is still running", hint="ask again with the same request_id"
                )
            self._held.add(key)

    def release(self, key: str) -> None:
        """Let the next one in."""
        with self._guard:
            self._held.discard(key)
            self._guard.notify_all()


class _Held:
    def __init__(self, locks: KeyedLocks, key: str) -> None:
        self._locks, self._key = locks, key

    def __enter__(self) -> None:
        self._locks.acquire(self._key)

    def __exit__(self, *_: object) -> None:
        self._locks.release(self._key)
