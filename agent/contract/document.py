"""The OpenRPC document, made from the typed methods. Not used when the agent runs.

OpenRPC 1.3.2: https://spec.open-rpc.org. Annotated[T, {...}] adds keywords to the JSON Schema of T.
"""

from __future__ import annotations

import collections.abc
import inspect
import json
from typing import (
    Annotated,
    Any,
    Dict,
    Iterable,
    List,
    Literal,
    Type,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from agent import API_VERSION
from agent.contract import titles
from agent.contract.examples import Example, Refusal
from agent.contract.method import Method
from agent.contract.parameters import ParameterCheck
from agent.shared.errors import STORE_HINT, AgentError, InvalidParams, ReadOnly, by_kind

Schema = Dict[str, Any]
NAME_MAX = 28
LISTS = (list, collections.abc.Iterator)
DAMAGED = "the agent's store is damaged"


def is_typeddict(hint: Any) -> bool:
    """Return whether `hint` is a TypedDict class (`typing.is_typeddict` is new in Python 3.10)."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__total__")


PLAIN: Dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}


def build(entries: Iterable[Method], examples: Dict[str, Example]) -> Dict[str, Any]:
    """Return the OpenRPC document of all methods. KeyError when a method has no example."""
    components: Dict[str, Schema] = {}
    methods = [_method(entry, examples[entry.name], components) for entry in entries]
    document: Dict[str, Any] = {
        "openrpc": "1.3.2",
        "info": {
            "title": "CodeSmith agent",
            "version": API_VERSION,
            "description": "Isolated users and workspaces on one node. JSON-RPC 2.0 over HTTP POST / on a Unix socket; "
            "parameters by name. Every error has data.kind, and data.hint where there is a next step. On the socket of "
            "tokens every method may be refused with out_of_scope (1010).",
            "license": {"name": "Apache-2.0"},
        },
        "methods": methods,
        "components": {"schemas": dict(sorted(components.items()))},
    }
    titles.add(document)
    return document


def dumps(document: Dict[str, Any]) -> str:
    """Return the document as the JSON text that is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _method(entry: Method, example: Example, components: Dict[str, Schema]) -> Dict[str, Any]:
    hints = get_type_hints(entry.function, include_extras=True)
    doc = inspect.getdoc(entry.function) or ""
    result = hints.pop("return")
    parameters = [p for p in inspect.signature(entry.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    errors: List[Type[AgentError]] = [InvalidParams, *entry.errors] if parameters else list(entry.errors)
    schemas = [_parameter(p, hints[p.name], components) for p in parameters]
    return {
        "name": entry.name,
        "summary": doc.splitlines()[0],
        "description": doc,
        "paramStructure": "by-name",
        "params": schemas,
        "result": {"name": _result_name(result), "schema": _schema(result, components)},
        "errors": [{"code": error.code, "message": _kind_line(error)} for error in errors],
        "examples": [_example(entry.name, example)],
        "x-example-given": example.given,
        "x-error-examples": [_error_example(entry.name, one) for one in _refusals(entry, example, schemas)],
        "x-mutates": entry.mutates,
        "x-scope": entry.scope,
    }


def _parameter(parameter: inspect.Parameter, hint: Any, components: Dict[str, Schema]) -> Dict[str, Any]:
    schema = _schema(_without_none(hint) if parameter.default is None else hint, components)
    description = schema.pop("description", "")
    if parameter.default not in (None, parameter.empty):
        schema["default"] = parameter.default
    return {
        "name": parameter.name,
        "required": parameter.default is parameter.empty,
        **({"description": description} if description else {}),
        "schema": schema,
    }


def _schema(hint: Any, components: Dict[str, Schema]) -> Schema:
    if hint in PLAIN:
        return dict(PLAIN[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_schema(arguments[0], components), **arguments[1]}
    if origin is Literal:
        return {**PLAIN[type(arguments[0])], "enum": list(arguments)}
    if origin in LISTS:
        return {"type": "array", "items": _schema(arguments[0], components)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], components)}
    if origin is Union:
        return {"oneOf": [_schema(argument, components) for argument in arguments]}
    if is_typeddict(hint):
        if hint.__name__ not in components:
            components[hint.__name__] = {}
            components[hint.__name__] = _record(hint, components)
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    raise TypeError(f"no JSON Schema for {hint!r}")


def _record(hint: Any, components: Dict[str, Schema]) -> Schema:
    fields = get_type_hints(hint, include_extras=True)
    return {
        "title": hint.__name__,
        "description": inspect.getdoc(hint) or "",
        "type": "object",
        "required": list(fields),
        "properties": {name: _schema(field, components) for name, field in fields.items()},
    }


def _without_none(hint: Any) -> Any:
    """Turn Optional[T] into T, also inside Annotated: an optional parameter is left out, never null."""
    if get_origin(hint) is Annotated:
        inner, extra = get_args(hint)
        plain = _without_none(inner)
        return Annotated[plain, extra]
    others = [argument for argument in get_args(hint) if argument is not type(None)]
    return others[0] if get_origin(hint) is Union and len(others) == 1 else hint


def _result_name(hint: Any) -> str:
    if get_origin(hint) in LISTS:
        return f"{get_args(hint)[0].__name__}List"
    return getattr(hint, "__name__", "") if is_typeddict(hint) else "document"


def _kind_line(error: Type[AgentError]) -> str:
    return f"{error.kind}: {(error.__doc__ or '').splitlines()[0]}"


def _example(method: str, example: Example) -> Dict[str, Any]:
    result = {"name": "result", "value": example.result}
    return {"name": method, "params": _values(example.params), "result": result}


def _error_example(method: str, refusal: Refusal) -> Dict[str, Any]:
    """Return an example of an error. It looks like those in `examples`, which in OpenRPC can only have a result."""
    data = {"kind": refusal.error, **refusal.data}
    return {
        "name": f"{method}: {refusal.error}",
        "params": _values(refusal.params),
        "error": {"code": by_kind(refusal.error).code, "message": refusal.message, "data": data},
        "given": refusal.given,
    }


def _values(params: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [{"name": key, "value": value} for key, value in params.items()]


def _refusals(entry: Method, example: Example, parameters: List[Dict[str, Any]]) -> List[Refusal]:
    """Return the examples of a method's errors: its own, and those that follow from its parameters and errors."""
    refusals = list(example.refusals)
    if parameters:
        named = next((one["name"] for one in parameters if one["schema"].get("maxLength") == NAME_MAX), None)
        params = {**example.params, **({named: "No Name"} if named else {"colour": "red"})}
        try:
            ParameterCheck(parameters)(params)
        except InvalidParams as error:
            data = {key: value for key, value in error.data.items() if key != "kind"}
            refusals.insert(0, Refusal(InvalidParams.kind, params, error.problem, data, []))
    if ReadOnly in entry.errors:
        damage = "the agent's store is damaged, nothing is changed: file is not a database"
        refusals.append(Refusal(ReadOnly.kind, example.params, damage, {"hint": STORE_HINT}, [{"node": DAMAGED}]))
    return refusals
