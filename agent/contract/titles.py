"""A title for every schema of the document, from which generators make the names of types.

Without one they name a type by a hash: `StringX0Q2Up7K`. A parameter or field gives its own name where all that have
this name are alike, and else with the record or method before it: `ExitCode`, `WorkspaceState`, `JobState`.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional, Tuple

Schema = Dict[str, Any]
# Keywords that are for people, and forms.
WORDS = ("description", "errorMessage", "examples", "default", "x-default-s")
# A schema, the record or method that it is in, and its own name.
Place = Tuple[Schema, str, str]


def add(document: Dict[str, Any]) -> None:
    """Give each schema of an OpenRPC document a title; those of records are there."""
    places = [*_fields(document), *_parameters(document), *_results(document)]
    taken = set(document["components"]["schemas"])
    alike: Dict[str, set[str]] = {}
    for schema, _, name in places:
        alike.setdefault(name, set()).add(_essence(schema))
    for schema, owner, name in places:
        title = name if len(alike[name]) == 1 and name not in taken else owner + name
        _set(schema, f"{title}Value" if title in taken else title)


def _fields(document: Dict[str, Any]) -> Iterator[Place]:
    for record, schema in document["components"]["schemas"].items():
        for field, inner in schema["properties"].items():
            yield inner, record, _camel(field)


def _parameters(document: Dict[str, Any]) -> Iterator[Place]:
    for method in document["methods"]:
        for parameter in method["params"]:
            yield parameter["schema"], _camel(method["name"]), _camel(parameter["name"])


def _results(document: Dict[str, Any]) -> Iterator[Place]:
    for method in document["methods"]:
        yield method["result"]["schema"], _camel(method["name"]), "Result"


def _essence(schema: Any) -> str:
    """Return what a schema accepts: two that are described in other words are alike."""
    if isinstance(schema, dict):
        return json.dumps({key: _essence(one) for key, one in sorted(schema.items()) if key not in WORDS})
    return json.dumps([_essence(one) for one in schema] if isinstance(schema, list) else schema)


def _set(schema: Schema, title: str) -> None:
    """Give a schema a title, unless its type has one, and those within it titles that begin with it."""
    if "$ref" in schema:
        return
    title = schema.get("title", title)
    inner = dict(_inner(schema, title))
    description: Optional[str] = schema.pop("description", None)
    rest = {key: schema.pop(key) for key in list(schema)}
    schema.update({"title": title, **({} if description is None else {"description": description}), **rest})
    for name, one in inner.items():
        _set(one, name)


def _inner(schema: Schema, title: str) -> Iterator[Tuple[str, Schema]]:
    for name, one in schema.get("properties", {}).items():
        yield title + _camel(name), one
    if isinstance(schema.get("items"), dict):
        yield f"{title}Item", schema["items"]
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{title}Value", schema["additionalProperties"]
    if "propertyNames" in schema:
        yield f"{title}Key", schema["propertyNames"]
    choices: List[Schema] = schema.get("oneOf", [])
    for number, one in enumerate(choices):
        yield "Null" if one.get("type") == "null" else f"{title}Value{number + 1 if number else ''}", one


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.replace(".", "_").split("_"))
