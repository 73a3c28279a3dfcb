"""JSON-RPC calls over a node's local endpoint; failures are typed errors."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from codesmith import paths
from codesmith.errors import (
    THIS_COMMAND,
    AgentRefused,
    AuthenticationFailed,
    CallInterrupted,
    CallLost,
    CodeSmithError,
    Hanging,
    Unreachable,
    by_kind,
)
from codesmith.http.client import BadAnswer, Closed, Connection, NotSwitched
from codesmith.http.port import Port
from codesmith.http.scoped_socket import ScopedSocket
from codesmith.sdk.record import as_parameter
from codesmith.sdk.trace import trace

T = TypeVar("T")

# How long until an answer begins. A change may wait a minute for other changes, so it gets more time than a read. A
# command's own limit is added.
LOOK_S = 14.0
CHANGE_S = 150.0
# A stream may have to start the runtime of its workspace.
STREAM_S = 90.0
UNAUTHORIZED = 401
# A working agent answers a read at once; a forwarder without a free stream says so within 5 s.
PROBE_S = 6.0
PROBE = b'{"jsonrpc":"2.0","id":0,"method":"node.version"}'
# Statuses of the forwarder itself: node not reachable; at a port also no token, a foreign caller, a body too long.
FORWARDER_STATUS = {"socket": (503,), "port": (401, 403, 413, 503)}
REPEATED = "CODESMITH_REQUEST_ID"


class Transport:
    """Calls methods on one node; the connection is opened by the first call and kept.

    Calls of several threads take turns. `ensure` is called if the endpoint does not answer, and makes it answer.
    `check` is called if no answer comes for 8 s, and raises if none will come. `renew` is called if sshd has refused
    the endpoint's login, and returns whether another attempt is worthwhile.
    """

    def __init__(
        self,
        node: str,
        to: Path | Port | ScopedSocket,
        ensure: Callable[[], Path | ScopedSocket],
        check: Callable[[], None] | None = None,
        renew: Callable[[], bool] = lambda: False,
    ) -> None:
        self.node, self._to, self._ensure, self._check, self._renew = node, to, ensure, check, renew
        # The user of a port may not know the node's name.
        self._choice = "" if isinstance(to, Port | ScopedSocket) else f" --node {node}"
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._number = self._changes = 0
        self._is_sent = False
        # A command that runs again with the id of its first run repeats its changes under the same ids.
        self._id = paths.variable(REPEATED) or os.urandom(16).hex()

    @property
    def change_id(self) -> str:
        """What the request ids of its changes begin with."""
        return self._id

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        with self._lock:
            self._drop()

    def call(self, method: str, params: Mapping[str, Any], *, changes: bool, limit_s: float = 0.0) -> Any:
        """Return the method's result; `limit_s` is the time that the method itself may take on the node.

        A change gets a request id: the agent answers a repeated call with the first result, and changes nothing again.
        """
        given = {name: value for name, value in params.items() if value is not None}
        with self._lock:
            if changes:
                self._changes += 1
                given.setdefault("request_id", f"{self._id}-{self._changes}")
        try:
            return self._call(method, given, changes=changes, limit_s=limit_s)
        except AuthenticationFailed:  # raised by the endpoint: the call has not reached the node
            if not self._renew():
                raise
        self._to = self._ensure()
        return self._call(method, given, changes=changes, limit_s=limit_s)

    def batch(self, calls: Sequence[tuple[str, Mapping[str, Any]]], *, limit_s: float = 0.0) -> list[Any]:
        """Call methods that change nothing, at most 16, in one round trip; return their results in that order.

        In place of a result that was refused stands its AgentRefused.
        """
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
            for number, (method, params) in enumerate(calls)
        ]
        what = f"a batch of {len(calls)}"
        status, body = self._answer(what, {}, requests, changes=False, limit_s=limit_s)
        answers = _parsed(body)
        if not isinstance(answers, list):  # an error of the forwarder, or of the batch as a whole
            answers = [self._result(what, status, answers, None)]
        found = {one.get("id"): one for one in answers if isinstance(one, dict)}
        if set(found) != set(range(len(calls))):
            raise self._bad_answer(what, f"HTTP {status}, and not one answer for each")
        return [self._outcome(method, status, found[number]) for number, (method, _) in enumerate(calls)]

    def _outcome(self, method: str, status: int, answer: dict[str, Any]) -> Any:
        try:
            return self._result(method, status, answer, answer["id"])
        except AgentRefused as refused:
            return refused

    def _call(self, method: str, given: Mapping[str, Any], *, changes: bool, limit_s: float) -> Any:
        with self._lock:
            self._number += 1
            number = self._number
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": given}
        status, body = self._answer(method, given, request, changes=changes, limit_s=limit_s)
        return self._result(method, status, _parsed(body), number)

    def _answer(
        self, method: str, given: Mapping[str, Any], request: Any, *, changes: bool, limit_s: float
    ) -> tuple[int, bytes]:
        """Send a request or a batch, and return status and body of the answer; what went wrong is a typed error."""
        with self._lock:
            start = time.monotonic()
            self._is_sent = False
            deadline = start + (CHANGE_S if changes else LOOK_S) + limit_s
            try:
                sent = json.dumps(request, default=as_parameter).encode()
                status, body = self._exchange(sent, deadline, changes=changes)
            except TimeoutError:
                problem = f"{self.node} did not answer {method} within {time.monotonic() - start:.0f} s"
                raise self._lost(problem, given) from None
            except Closed as closed:
                raise self._lost(f"{self.node}: {closed} to {method}", given) from None
            except Hanging as hanging:
                raise self._lost(
                    f"{self.node} did not answer {method}: {hanging.problem}", given, hanging.hint
                ) from None
            except BadAnswer as error:
                raise self._bad_answer(method, f"something else, at {self._place}: {error}") from None
            except KeyboardInterrupt:
                if changes and self._is_sent:
                    raise CallInterrupted(self.node, method, given) from None
                raise
            trace(self.node, method, given, status, start)
        return status, body

    def upgrade(self, target: str, protocol: str, headers: Mapping[str, str]) -> socket.socket:
        """Return a new connection that has switched to `protocol`; repeated once, like a call."""
        deadline = time.monotonic() + STREAM_S
        try:
            try:
                return self._connect(deadline).upgrade(target, protocol, headers, deadline)
            except Closed as closed:
                if not closed.was_silent:
                    raise
            return self._connect(deadline).upgrade(target, protocol, headers, deadline)
        except Closed as closed:
            raise self._lost(f"{self.node}: {closed} to {protocol}", {}) from None
        except TimeoutError:
            problem = f"{self.node} did not answer within {STREAM_S:.0f} s"
            raise Unreachable(problem, hint=f"inv node.status{self._choice}") from None
        except NotSwitched as answer:
            error = _error_in(answer.body)
            if error:
                raise self._refusal(protocol, answer.status, error) from None
            raise self._not_switched(protocol, answer) from None
        except BadAnswer as answer:
            raise self._not_switched(protocol, answer) from None

    @property
    def is_port(self) -> bool:
        """Whether calls go to a port or with a token, and not to the operator's private socket."""
        return isinstance(self._to, Port | ScopedSocket)

    @property
    def _forwarder_status(self) -> tuple[int, ...]:
        return FORWARDER_STATUS["port" if isinstance(self._to, Port) else "socket"]

    def _not_switched(self, protocol: str, answer: BadAnswer) -> CodeSmithError:
        problem = f"{self.node} does not switch to {protocol}: {answer}"
        return CodeSmithError(problem, hint=f"inv node.prepare{self._choice}")

    def record(self, method: str, read: Callable[[Any], T], result: Any) -> T:
        """Return `read(result)`; CodeSmithError with a next step for an answer that does not match the contract."""
        try:
            return read(result)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"in a form this client does not know ({type(error).__name__}: {error})"
            if isinstance(error, KeyError):
                what = f"without {error}: its agent is older than this client"
            raise CodeSmithError(
                f"{self.node} answered {method} {what}", hint=f"inv node.prepare{self._choice}"
            ) from error

    def _exchange(self, body: bytes, deadline: float, *, changes: bool) -> tuple[int, bytes]:
        """Send a request, again on a new connection if the first one ends before the answer; Closed if that fails.

        A connection may close just as it is used: the agent restarts, or has closed a kept one. Repeating is safe:
        every change carries a request id. An error of the repetition must not hide that a change may have been made.
        """
        try:
            return self._post(self._open(deadline), body, deadline)
        except Closed as closed:
            if not closed.was_silent:
                raise
            ended = closed
        try:
            status, answer = self._post(self._open(deadline), body, deadline)
        except CodeSmithError as error:
            if changes:
                raise ended from error
            raise
        if changes and status in self._forwarder_status:
            raise ended
        return status, answer

    def _post(self, connection: Connection, body: bytes, deadline: float) -> tuple[int, bytes]:
        stays_open = False
        self._is_sent = True  # a part of it may be
        try:
            status, answer, stays_open = connection.post(body, deadline)
            return status, answer
        finally:
            if not stays_open:
                self._drop()

    def _open(self, deadline: float) -> Connection:
        if self._connection is not None and not self._connection.is_stale:
            return self._connection
        self._drop()
        self._connection = self._connect(deadline)
        return self._connection

    def _connect(self, deadline: float) -> Connection:
        try:
            return Connection(self._to, deadline, self._check_liveness)
        except (FileNotFoundError, ConnectionRefusedError):
            self._to = self._ensure()
            return self._open_again(deadline)
        except OSError as error:
            raise self._cannot_connect(error) from error

    def _open_again(self, deadline: float) -> Connection:
        try:
            # `ensure` may have taken long; give the call itself at least 5 s.
            return Connection(self._to, max(deadline, time.monotonic() + 5), self._check_liveness)
        except OSError as error:
            raise self._cannot_connect(error) from error

    def _check_liveness(self) -> None:
        """Raise Hanging if the forwarder or the agent answers no call; used after a long silence."""
        if self._check is not None:
            self._check()
        deadline = time.monotonic() + PROBE_S
        try:
            with closing(Connection(self._to, deadline)) as connection:
                connection.post(PROBE, deadline)
        except TimeoutError:
            raise Hanging("its agent answers no call", hint=f"inv node.restart{self._choice}") from None
        except (OSError, Closed, BadAnswer):
            pass  # it answers or closes: the call itself gets the error

    def _cannot_connect(self, error: OSError) -> CodeSmithError:
        if isinstance(error, TimeoutError):
            raise error
        problem = f"cannot connect to {self.node} at {self._place}: {error.strerror}"
        return Unreachable(problem, hint=f"inv node.disconnect{self._choice}  # then the same again")

    @property
    def _place(self) -> str:
        return str(self._to) if isinstance(self._to, Path) else self._to.url

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lost(self, problem: str, given: Mapping[str, Any], before: str = "") -> CallLost:
        """Return the error for a call without an answer: how to repeat it, and the command `before` it."""
        request_id = str(given.get("request_id", ""))
        if not request_id:
            return CallLost(problem, hint=f"{before or f'inv node.status{self._choice}'}  # then the same again")
        is_generated = request_id == f"{self._id}-{self._changes}"
        how = f"{REPEATED}={self._id} {THIS_COMMAND}" if is_generated else f"with request_id={request_id!r}"
        hint = f"the same again, and nothing is done twice: {before and f'{before}; '}{how}"
        return CallLost(f"{problem}; it may have been carried out", hint=hint, request_id=request_id)

    def _result(self, method: str, status: int, answer: Any, number: int | None) -> Any:
        if not isinstance(answer, dict):
            raise self._bad_answer(method, f"HTTP {status} and no JSON-RPC object")
        error = answer.get("error")
        if isinstance(error, dict):
            raise self._refusal(method, status, error)
        if "result" not in answer or answer.get("id") != number:
            raise self._bad_answer(method, f"HTTP {status}, neither result nor error")
        return answer["result"]

    def _bad_answer(self, method: str, what: str) -> CodeSmithError:
        return CodeSmithError(f"{self.node} answered {method} with {what}", hint=f"inv node.status{self._choice}")

    def _refusal(self, method: str, status: int, error: dict[str, Any]) -> CodeSmithError:
        """Return the error of an answer: the agent's errors have a code, the forwarder's name a CodeSmithError."""
        if status == UNAUTHORIZED and isinstance(error.get("code"), int):
            problem = f"{self.node} takes no call without a valid token: this one is unknown, expired or revoked"
            return AuthenticationFailed(problem, hint="inv token.create WORKSPACE  # by the operator of the node")
        if isinstance(error.get("code"), int):
            data = error.get("data")
            problem = str(error.get("message") or f"{method} was refused")
            return AgentRefused(problem, code=error["code"], data=data if isinstance(data, dict) else None)
        if status not in self._forwarder_status:
            raise self._bad_answer(method, "an error that has no code")
        problem = str(error.get("problem") or f"{self.node} cannot be reached")
        return by_kind(str(error.get("kind", "")))(problem, hint=str(error.get("hint", "")))


def _parsed(body: bytes) -> Any:
    """Return the value of a body that is JSON; else None."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # a node may nest too deep
        return None


def _error_in(body: bytes) -> dict[str, Any]:
    """Return the error that the body of an HTTP answer has; {} if it has none."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}
