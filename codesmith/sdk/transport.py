"""One JSON-RPC call over a node's local endpoint, and what can go wrong with it as typed errors."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from codesmith.errors import AgentRefused, CodeSmithError, Unreachable, by_kind
from codesmith.sdk.wire import BadAnswer, Closed, Connection

T = TypeVar("T")

# A change may wait a minute for others to end, so it gets more time than a look. A command's own limit comes on top.
LOOK_S = 30.0
CHANGE_S = 150.0
FORWARDER_STATUS = 503
SECRETS = ("credential", "env", "password", "ssh_keys", "stdin", "token")


class Transport:
    """Calls methods on one node; the connection is opened by the first call and kept.

    Calls of several threads go one after the other. `ensure` makes the endpoint answer and is called when it does not.
    """

    def __init__(self, node: str, path: Path, ensure: Callable[[], Path]) -> None:
        self.node, self._path, self._ensure = node, path, ensure
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._number = 0

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            self._drop()

    def call(self, method: str, params: Mapping[str, Any], *, changes: bool) -> Any:
        """Return the method's result.

        A change gets a request id, so that a repeated call cannot do it twice: the agent answers with the first result.
        """
        given = {name: value for name, value in params.items() if value is not None}
        if changes:
            given.setdefault("request_id", os.urandom(16).hex())
        with self._lock:
            start = time.monotonic()
            self._number += 1
            request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": given}
            deadline = start + (CHANGE_S if changes else LOOK_S) + float(given.get("timeout_s") or 0)
            try:
                status, body = self._exchange(method, json.dumps(request).encode(), deadline)
            except TimeoutError:
                problem = f"{self.node} did not answer {method} within {time.monotonic() - start:.0f} s"
                raise Unreachable(problem, hint=f"inv node.status --node {self.node}") from None
            _trace(self.node, method, given, status, start)
        return self._result(method, status, body)

    def record(self, method: str, read: Callable[[Any], T], result: Any) -> T:
        """Return `read(result)`; an answer that is not as the contract has it is an error with a next step."""
        try:
            return read(result)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            problem = f"{self.node} answered {method} in a form this client does not know ({what})"
            raise CodeSmithError(problem, hint=f"inv node.prepare --node {self.node}") from error

    def _exchange(self, method: str, body: bytes, deadline: float) -> tuple[int, bytes]:
        connection = self._open(deadline)
        was_fresh = connection.is_fresh
        try:
            return self._post(connection, method, body, deadline)
        except Closed as closed:
            # A kept connection may end just when we use it. Every call that changes something carries a request id.
            if was_fresh or not closed.was_silent:
                raise self._lost(method, closed) from None
        try:
            return self._post(self._open(deadline), method, body, deadline)
        except Closed as closed:
            raise self._lost(method, closed) from None

    def _post(self, connection: Connection, method: str, body: bytes, deadline: float) -> tuple[int, bytes]:
        stays_open = False
        try:
            status, answer, stays_open = connection.post(body, deadline)
            return status, answer
        except BadAnswer as error:
            raise CodeSmithError(f"{self._path} answered {method} with something else: {error}") from None
        finally:
            if not stays_open:
                self._drop()

    def _open(self, deadline: float) -> Connection:
        if self._connection is not None and not self._connection.is_stale:
            return self._connection
        self._drop()
        try:
            self._connection = Connection(self._path, deadline)
        except (FileNotFoundError, ConnectionRefusedError):
            self._path = self._ensure()
            self._connection = self._open_again(deadline)
        except OSError as error:
            raise self._no_entry(error) from error
        return self._connection

    def _open_again(self, deadline: float) -> Connection:
        try:
            # Making it answer may have taken long; the call itself still deserves some seconds.
            return Connection(self._path, max(deadline, time.monotonic() + 5))
        except OSError as error:
            raise self._no_entry(error) from error

    def _no_entry(self, error: OSError) -> CodeSmithError:
        if isinstance(error, TimeoutError):
            raise error
        problem = f"cannot connect to {self.node} at {self._path}: {error.strerror}"
        return Unreachable(problem, hint=f"inv node.disconnect --node {self.node}, then the same again")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lost(self, method: str, closed: Closed) -> Unreachable:
        return Unreachable(f"{self.node}: {closed} to {method}", hint=f"inv node.status --node {self.node}")

    def _result(self, method: str, status: int, body: bytes) -> Any:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):  # a node may nest without end
            answer = None
        if not isinstance(answer, dict):
            raise CodeSmithError(f"{self.node} answered {method} with HTTP {status} and no JSON-RPC object")
        error = answer.get("error")
        if isinstance(error, dict):
            raise self._refusal(method, status, error)
        if "result" not in answer or answer.get("id") != self._number:
            raise CodeSmithError(f"{self.node} answered {method} with HTTP {status}, neither result nor error")
        return answer["result"]

    def _refusal(self, method: str, status: int, error: dict[str, Any]) -> CodeSmithError:
        """The agent's errors have a code; the forwarder's have the kind of what stands between us and the agent."""
        if isinstance(error.get("code"), int):
            data = error.get("data")
            problem = str(error.get("message") or f"{method} was refused")
            return AgentRefused(problem, code=error["code"], data=data if isinstance(data, dict) else None)
        if status != FORWARDER_STATUS:
            raise CodeSmithError(f"{self.node} answered {method} with an error that has no code")
        problem = str(error.get("problem") or f"{self.node} cannot be reached")
        return by_kind(str(error.get("kind", "")))(problem, hint=str(error.get("hint", "")))


def _trace(node: str, method: str, params: Mapping[str, Any], status: int, start: float) -> None:
    """Show the wire on stderr for CODESMITH_DEBUG=rpc, without what is nobody's business."""
    if "rpc" not in os.environ.get("CODESMITH_DEBUG", "").split(","):
        return
    shown = json.dumps({name: "..." if name in SECRETS else value for name, value in params.items()})
    took_ms = (time.monotonic() - start) * 1000
    sys.stderr.write(f"rpc {node} {method} {shown} -> HTTP {status} in {took_ms:.1f} ms\n")
