"""JSON-RPC 2.0: from the text of a request body to calls, and from results to the text of the reply.

A stricter version of jsonrpclib's dispatcher. A refused request is neither quoted nor logged: it may hold a secret.
"""

from __future__ import annotations

import functools
import itertools
import json
import threading
from contextlib import nullcontext
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

import jsonrpclib.config
import jsonrpclib.jsonlib
import jsonrpclib.jsonrpc
from jsonrpclib.SimpleJSONRPCServer import SimpleJSONRPCDispatcher

from agent.shared.errors import AgentError, LimitReached
from agent.shared.nesting import check_depth

BATCH_MAX = 16
# Characters. Once the answers of a batch are longer than this, its remaining requests are refused.
BATCH_REPLY_MAX = 16 << 20
# Methods whose answers grow with the node. Only LISTS_MAX of them are in memory at once; others wait.
LISTS = ("audit.list", "sandbox.list", "user.list", "workspace.list")
LISTS_MAX = 4
DIGITS_MAX = 64
RECORDS_AT_ONCE = 100
CONFIG = jsonrpclib.config.Config(version=2.0, content_type="application/json", use_jsonclass=False)


class NotJson(AgentError):
    """The body is not JSON."""

    code, kind = -32700, "parse_error"


class Invalid(AgentError):
    """The request is not a valid JSON-RPC 2.0 request."""

    code, kind = -32600, "invalid_request"


class Real(float):
    """A number that was written with a fraction or exponent: 1.0 is not an integer here."""

    def is_integer(self) -> bool:
        """Return False. fastjsonschema asks this when it checks for an integer."""
        return False


class CachedJson(Dict[str, Any]):
    """A dict that never changes: its JSON text is made once."""

    @functools.cached_property
    def text(self) -> str:
        """The JSON text."""
        return dump_json(dict(self))


class JsonList:
    """A list as JSON text, made in parts: its records are never all in memory (ten thousand would take 15 MB)."""

    def __init__(self, records: Iterator[Any]) -> None:
        self._parts: List[str] = []
        while True:
            part = list(itertools.islice(records, RECORDS_AT_ONCE))
            if not part:
                return
            self._parts.append(dump_json(part)[1:-1])

    @property
    def text(self) -> str:
        """The JSON text."""
        return f"[{','.join(self._parts)}]"


class JsonRpc(SimpleJSONRPCDispatcher):
    """jsonrpclib's dispatcher, strict about JSON-RPC 2.0 and about the memory of answers.

    `dispatch_method` takes (method, params, is_notification, refusal): given a refusal, it only records the attempt.
    """

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self._listing = threading.BoundedSemaphore(LISTS_MAX)

    def _marshaled_dispatch(self, data: str, dispatch_method: Any = None, path: Any = None) -> str:
        """Return the answer to a body; empty when it held only notifications."""
        try:
            request = parse_json(data)
        except ValueError as error:
            return dump_json(error_answer(None, NotJson(f"the request is not JSON: {error}")))
        if not isinstance(request, list):
            return self._text(request, dispatch_method)
        if not 1 <= len(request) <= BATCH_MAX:
            return dump_json(error_answer(None, Invalid(f"a batch holds 1 to {BATCH_MAX} requests")))
        texts: List[str] = []
        for one in request:
            is_full = sum(map(len, texts)) > BATCH_REPLY_MAX
            texts.append(self._text(one, dispatch_method, _too_long() if is_full else None))
        answers = ",".join(text for text in texts if text)
        return f"[{answers}]" if answers else ""

    def _text(self, request: Any, dispatch_method: Any, refusal: Optional[AgentError] = None) -> str:
        """Return the answer to one request as text; only LISTS_MAX lists are in memory at once."""
        method = request.get("method") if isinstance(request, dict) else None
        with self._listing if method in LISTS else nullcontext():
            answer = self._answer(request, dispatch_method, refusal)
            return "" if answer is None else _text_of(answer)

    def _answer(self, request: Any, dispatch_method: Any, refusal: Optional[AgentError]) -> Optional[Dict[str, Any]]:
        problem = _problem_of(request)
        identity = request.get("id") if isinstance(request, dict) else None
        if problem:
            return error_answer(identity if _is_identity(identity) else None, Invalid(problem))
        is_notification = "id" not in request
        try:
            result = dispatch_method(request["method"], request.get("params") or None, is_notification, refusal)
            answer = {"jsonrpc": "2.0", "result": result, "id": identity}
        except AgentError as error:
            answer = error_answer(identity, error)
        return None if is_notification else answer


def error_answer(identity: Any, error: AgentError) -> Dict[str, Any]:
    """Return the JSON-RPC answer for an error."""
    return {"jsonrpc": "2.0", "error": error.to_dict(), "id": identity}


def dump_json(value: Any) -> str:
    """Return a value as JSON, in ASCII."""
    return _ENCODER.encode(value)


def _too_long() -> LimitReached:
    return LimitReached("not carried out: the answers of this batch are too long", hint="send the requests one by one")


def _text_of(answer: Dict[str, Any]) -> str:
    result = answer.get("result")
    if not isinstance(result, (CachedJson, JsonList)):
        return dump_json(answer)
    return f'{{"jsonrpc":"2.0","result":{result.text},"id":{dump_json(answer["id"])}}}'


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    ValueError also for NaN, huge numbers, an object with a name twice, and what is nested too deep.
    """
    check_depth(text.encode("utf-8", "surrogatepass"))
    if text.startswith("\ufeff"):
        _refuse("a byte order mark")
    return _DECODER.decode(text)


def _problem_of(request: Any) -> str:
    """Return why a value is not a JSON-RPC 2.0 request; empty when it is one."""
    if not isinstance(request, dict):
        return "a request must be an object"
    if request.get("jsonrpc") != "2.0":
        return '"jsonrpc" must be "2.0"'
    if not _is_identity(request.get("id")):
        return '"id" must be a string, a number or null'
    method = request.get("method")
    if not isinstance(method, str) or not method:
        return '"method" must be the name of a method'
    if not isinstance(request.get("params", {}), (dict, list)):
        return '"params" must be an object'
    return ""


def _is_identity(value: Any) -> bool:
    return value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool))


def _parse_real(text: str) -> float:
    number = Real(text)
    return number if abs(number) != float("inf") else _refuse("a number this large")


def _parse_integer(text: str) -> int:
    # Long ones take quadratic time before Python 3.11.
    return int(text) if len(text) <= DIGITS_MAX else _refuse("a number this long")


def _parse_object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else _refuse("the same name twice")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what} is not accepted")


# Created once: json.loads and json.dumps with options create them for each call.
_DECODER = json.JSONDecoder(
    parse_float=_parse_real, parse_int=_parse_integer, parse_constant=_refuse, object_pairs_hook=_parse_object
)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
# The standard library's functions: jsonrpclib prefers orjson and ujson, which differ in depth and big numbers.
jsonrpclib.jsonrpc.jloads = parse_json
jsonrpclib.jsonrpc.jdumps = jsonrpclib.jdumps = lambda value, encoding="utf-8": dump_json(value)
