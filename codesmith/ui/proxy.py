"""Pass JSON-RPC of a page on to a node's endpoint, after it was read and found to be JSON-RPC."""

from __future__ import annotations

import json
from typing import Any

from codesmith.errors import AgentRefused, CallLost, CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.sdk.client import Client
from codesmith.ui.contract import Contracts, Method

BATCH_MAX = 16
PARSE, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
# An error of this side: the node, its agent or the forwarder did not answer.
NOT_ANSWERED = -32000
READ_ONLY = -32001
# It may be newer than the contract that was read.
UNKNOWN = Method(mutates=True, takes_request_id=False, limit_s=0.0)


class Proxy:
    """Passes requests on. With `read_only` only methods that change nothing, as the node's own contract says."""

    def __init__(self, contracts: Contracts, *, read_only: bool) -> None:
        self._contracts, self._read_only = contracts, read_only

    def answer(self, node: Node, body: bytes) -> bytes | None:
        """Return the JSON-RPC answer; None if no answer was asked for, and then nothing was passed on."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _dump(_error(None, PARSE, "not JSON"))
        if not isinstance(request, list):
            return _dump(self._one(node, request)) if _is_answered(request) else None
        if not 1 <= len(request) <= BATCH_MAX:
            return _dump(_error(None, INVALID_REQUEST, f"a batch has 1 to {BATCH_MAX} requests"))
        answers = [self._one(node, one) for one in request if _is_answered(one)]
        return _dump(answers) if answers else None

    def _one(self, node: Node, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
            return _error(None, INVALID_REQUEST, "not a request of JSON-RPC 2.0")
        number, params, name = request.get("id"), request.get("params", {}), request.get("method")
        if not isinstance(name, str) or not isinstance(number, int | str) or isinstance(number, bool):
            return _error(None, INVALID_REQUEST, "a request has a method, and an id that is a number or a text")
        if not isinstance(params, dict):
            return _error(number, INVALID_PARAMS, "parameters go by name")
        try:
            return {"jsonrpc": "2.0", "id": number, "result": self.call(node, name, params)}
        except AgentRefused as refused:
            return _error(number, refused.rpc_code, refused.problem, refused.data)
        except CodeSmithError as error:
            more = {"request_id": error.request_id} if isinstance(error, CallLost) else {}
            return _error(number, NOT_ANSWERED, error.problem, {"kind": error.kind, "hint": error.hint, **more})

    def check_writable(self, what: str) -> None:
        """Raise AgentRefused if the pages are read-only."""
        if self._read_only:
            data = {"kind": "read_only_ui", "hint": "inv ui.open  # without --read-only"}
            raise AgentRefused(f"these pages are read-only, and {what} changes something", code=READ_ONLY, data=data)

    def call(self, node: Node, name: str, params: dict[str, Any]) -> Any:
        """Return the result of a method; AgentRefused if the node, or these pages, refuse it."""
        with Client(node) as client:
            method = self._contracts.of(client).get(name, UNKNOWN)
            if method.mutates:
                self.check_writable(name)
            # Of a method that does not wait for it, like job.start, the time limit is no time of the call.
            limit_s = (_limit_s(params) or method.limit_s) if method.limit_s else 0.0
            return client.call(name, params, changes=method.takes_request_id, limit_s=limit_s)


def _limit_s(params: dict[str, Any]) -> float:
    """Return the time limit that a caller gives to the method itself; the agent refuses one that is none."""
    inner = params.get("repo")
    given = params.get("timeout_s", inner.get("timeout_s") if isinstance(inner, dict) else None)
    return min(float(given), 3600.0) if isinstance(given, int | float) and given > 0 else 0.0


def _is_answered(request: Any) -> bool:
    """Tell whether a request wants an answer; a malformed one gets one in any case."""
    return not (isinstance(request, dict) and "id" not in request and isinstance(request.get("method"), str))


def _error(number: Any, code: int, message: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"code": code, "message": message, "data": data or {"kind": "invalid_request"}}
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()
