"""One call, from its parameters to its result: check, journal, run, record.

Parameters are checked against openrpc.json before the method runs, so a TypeError inside a method is a bug of ours and
never "invalid params".
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import threading
import time
import traceback
import uuid
from typing import Any, Callable, Dict, List, Optional

from agent.audit import Audit
from agent.context import Context
from agent.errors import AgentError, InUse, InvalidParams, LimitReached
from agent.method import Method
from agent.privileged import HelperSilent

LOCK_WAIT_S = 60.0


class MethodNotFound(AgentError):
    """The contract has no such method."""

    code, kind = -32601, "method_not_found"


class InternalError(AgentError):
    """A bug of ours: the traceback stays in the log, the caller gets a reference to it."""

    code, kind = -32603, "internal"

    @classmethod
    def of(cls, name: str) -> InternalError:
        """Log the exception that is being handled and make the error that refers to it."""
        reference = uuid.uuid4().hex[:12]
        print(f"internal error {reference} in {name}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return cls(f"{name} failed inside the agent", reference=reference, hint="inv node.logs")


# After these it is not known how far a change came.
UNSETTLED = (HelperSilent, InternalError)


class Dispatcher:
    """Calls methods of the contract; safe to use from many threads."""

    def __init__(self, context: Context, audit: Audit) -> None:
        from agent.methods import METHODS

        self._context, self._audit = context, audit
        self._methods: Dict[str, Method] = {entry.name: entry for entry in METHODS}
        self._checks = {entry["name"]: ParameterCheck(entry["params"]) for entry in context.contract["methods"]}
        self._changing = threading.Lock()
        self._running = KeyedLocks()

    def call(self, name: str, params: Any, *, peer_uid: Optional[int], is_notification: bool = False) -> Any:
        """Return the method's result or raise an AgentError. A notification changes nothing."""
        entry = self._methods.get(name)
        if entry is None:
            raise MethodNotFound(f"no method {name[:64]!r}", hint="rpc.discover lists them")
        if entry.mutates and is_notification:
            return None
        try:
            if entry.mutates:
                return self._change(entry, params, peer_uid)
            return entry.function(self._context, **self._checks[name](params))
        except AgentError:
            raise
        except Exception as error:  # the RPC border: log, answer with a reference
            raise InternalError.of(name) from error

    def resume(self) -> None:
        """Run again what was begun and not ended: every resumable method's second run completes its first."""
        for intent in self._context.store.intents():
            entry = self._methods[intent.method]
            try:
                reply = {"result": self._run(entry, entry.settle or entry.function, intent.params)}
                outcome = "resumed"
            except AgentError as error:
                reply, outcome = {"error": error.to_dict()}, f"resumed: {error.kind}"
                if isinstance(error, UNSETTLED):
                    continue  # the helper did not answer: stays pending, node.health says so
            self._context.store.end(
                intent.id, intent.params.get("request_id"), _digest(intent.method, intent.params), reply
            )
            self._audit.write(intent.method, intent.params, peer_uid=None, outcome=outcome, duration_s=0.0)

    def _change(self, entry: Method, params: Any, peer_uid: Optional[int]) -> Any:
        begun, outcome = time.monotonic(), "ok"
        try:
            checked = self._checks[entry.name](params)
            self._context.store.check_writable()
            request_id = checked.get("request_id")
            if request_id is None:
                return self._journaled(entry, checked)
            with self._running.hold(request_id):
                return self._once(entry, checked, request_id)
        except AgentError as error:
            outcome = error.kind
            raise
        except sqlite3.OperationalError as error:  # a full disk, above all
            outcome = LimitReached.kind
            raise LimitReached(f"the store cannot be written: {error}", hint="df /var/lib/codesmith") from error
        finally:
            known = params if isinstance(params, dict) else {}
            self._audit.write(
                entry.name, known, peer_uid=peer_uid, outcome=outcome, duration_s=time.monotonic() - begun
            )

    def _once(self, entry: Method, params: Dict[str, Any], request_id: str) -> Any:
        """Return the first result of this request id; run the method when there is none."""
        earlier = self._context.store.result_of(request_id)
        if earlier is None:
            return self._journaled(entry, params)
        digest, reply = earlier
        if digest != _digest(entry.name, _public(entry, params)):
            raise InvalidParams.of("request_id", "was used for another call")
        if "error" in reply:
            error = AgentError(reply["error"]["message"])
            error.code, error.data = reply["error"]["code"], reply["error"]["data"]
            error.kind = error.data["kind"]
            raise error
        return reply["result"]

    def _journaled(self, entry: Method, params: Dict[str, Any]) -> Any:
        """Run a change between its intent and its result. A refusal is a result too; what may go on is not."""
        store, request_id = self._context.store, params.get("request_id")
        digest = _digest(entry.name, _public(entry, params))
        if not entry.is_resumable:
            result = self._run(entry, entry.function, params)
            try:
                store.end(None, request_id, digest, {"result": result})
            except sqlite3.OperationalError as error:  # it was done: its result matters more than remembering it
                print(f"the result of {entry.name} is not kept: {error}", file=sys.stderr, flush=True)
            return result
        if entry.settle is not None:
            return self._recorded(entry, params, digest)
        if not self._changing.acquire(timeout=LOCK_WAIT_S):
            raise InUse("other changes on this node take too long", hint="try again")
        try:
            return self._recorded(entry, params, digest)
        finally:
            self._changing.release()

    def _recorded(self, entry: Method, params: Dict[str, Any], digest: str) -> Any:
        store, request_id = self._context.store, params.get("request_id")
        intent = store.begin(entry.name, _public(entry, params))
        try:
            result = self._run(entry, entry.function, params)
        except UNSETTLED:
            raise  # it may be half-done: the intent stays and is taken up again
        except AgentError as error:
            store.end(intent, request_id, digest, {"error": error.to_dict()})
            raise
        store.end(intent, request_id, digest, {"result": result})
        return result

    def _run(self, entry: Method, function: Callable[..., Any], params: Dict[str, Any]) -> Any:
        try:
            return function(self._context, **params)
        except AgentError:
            raise
        except Exception as error:  # a bug half-way through a change: the journal must know it as such
            raise InternalError.of(entry.name) from error


class ParameterCheck:
    """The parameters of one method, as openrpc.json has them; compiled at the first call."""

    def __init__(self, parameters: List[Dict[str, Any]]) -> None:
        self._parameters = {parameter["name"]: parameter for parameter in parameters}
        self._compiled: Dict[str, Callable[[Any], Any]] = {}

    def __call__(self, params: Any) -> Dict[str, Any]:
        """Return the parameters; InvalidParams lists every field that is wrong."""
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise InvalidParams.of("params", "must be an object: parameters go by name")
        known = self._parameters
        problems = [(name, f"is unknown (known: {', '.join(known) or 'none'})") for name in params if name not in known]
        problems += [(name, "is missing") for name, one in known.items() if one["required"] and name not in params]
        problems += [(name, found) for name in params if name in known for found in self._problems(name, params[name])]
        if problems:
            text = "; ".join(f"{name[:64]} {problem}" for name, problem in problems[:3])
            errors = [{"field": name[:64], "problem": problem} for name, problem in problems[:32]]
            raise InvalidParams(text, hint=self._hint(problems[0][0]), errors=errors)
        return dict(params)

    def _hint(self, name: str) -> str:
        good = self._parameters.get(name, {}).get("schema", {}).get("examples")
        return f"a good one: {good[0]}" if good else "rpc.discover has the schema of every parameter"

    def _problems(self, name: str, value: Any) -> List[str]:
        import fastjsonschema  # on the first call: it is not needed to start

        if name not in self._compiled:
            self._compiled[name] = fastjsonschema.compile(self._parameters[name]["schema"])
        try:
            self._compiled[name](value)
        except fastjsonschema.JsonSchemaValueException as error:
            where = "".join(f"[{part}]" for part in error.path[1:])
            problem = error.definition.get("errorMessage") or str(error.message).replace(str(error.name), "", 1)
            return [f"{where} {problem.strip()}".strip()]
        return []


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


def _public(entry: Method, params: Dict[str, Any]) -> Dict[str, Any]:
    """Return the parameters that may be written down."""
    return {key: value for key, value in params.items() if key not in entry.secrets}


def _digest(method: str, params: Dict[str, Any]) -> str:
    """Name a call by its content; keys, environment and standard input are not kept in clear."""
    text = json.dumps([method, params], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
