"""Write api.py from agent/openrpc.json: `python -m codesmith.sdk.generate`. `--check` only says if it is stale."""

from __future__ import annotations

import json
import keyword
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codesmith.errors import CodeSmithError

CONTRACT = Path(__file__).resolve().parents[2] / "agent" / "openrpc.json"
TARGET = Path(__file__).with_name("api.py")
# Every changing method has this parameter with the same description; the client fills it in.
REQUEST_ID = "request_id"
# In the schema of a time limit: its value if the caller gives none.
DEFAULT_S = "x-default-s"
SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
HEAD = '''\
"""The methods and records of the contract. Generated from agent/openrpc.json by `make api`: do not edit."""
# ruff: noqa: A002, RUF023  names and order are those of the contract

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from codesmith.sdk.record import Record
from codesmith.sdk.transport import Transport
'''


class BadContract(CodeSmithError):
    """openrpc.json uses something this generator does not know."""


def main() -> None:
    """Write api.py; with `--check`, only compare it and exit with 1 if it is stale."""
    text = module(json.loads(CONTRACT.read_text()))
    is_current = TARGET.is_file() and TARGET.read_text() == text
    if "--check" in sys.argv[1:]:
        if not is_current:
            sys.stderr.write(f"error: {TARGET} does not match {CONTRACT}\nhint: make api\n")
            raise SystemExit(1)
        return
    if not is_current:
        TARGET.write_text(text)


def module(contract: Mapping[str, Any]) -> str:
    """Return the text of api.py for a contract."""
    schemas = contract.get("components", {}).get("schemas", {})
    parts = [HEAD]
    parts += ["\n".join(record(name, schemas[name])) + "\n" for name in sorted(schemas)]
    parts += ["\n".join(group(prefix, methods)) + "\n" for prefix, methods in groups(contract)]
    parts += ["\n".join(namespaces(prefix for prefix, _ in groups(contract))) + "\n"]
    return "\n\n".join(parts)


def groups(contract: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each prefix with its methods, in alphabetical order, without rpc.*: that is `Client.discover`."""
    methods = sorted(contract["methods"], key=lambda method: str(method["name"]))
    for prefix in sorted({method["name"].partition(".")[0] for method in methods} - {"rpc"}):
        yield prefix, [method for method in methods if method["name"].partition(".")[0] == prefix]


def record(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one record class."""
    fields = {field: _field_type(name, field, schema) for field in schema.get("properties", {})}
    yield f"class {name}(Record):"
    yield from _docstring(1, [str(schema.get("description") or f"{name}.")], _described(schema))
    yield from _fitting("    __slots__ = (", [json.dumps(field) for field in fields], ")", is_tuple=True)
    yield ""
    yield from _signature("    def __init__", ["self"], [f"{field}: {kind}" for field, kind in fields.items()], "None")
    yield from (f"        self.{field} = {field}" for field in fields)
    yield ""
    yield "    @classmethod"
    yield f"    def from_dict(cls, data: Mapping[str, Any]) -> {name}:"
    yield '        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""'
    yield "        return cls("
    for field in fields:
        is_required = field in schema.get("required", ())
        yield f"            {field}={_reader(schema['properties'][field], field, is_required)},"
    yield "        )"


def group(prefix: str, methods: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the class with the methods of one prefix."""
    yield f"class {prefix.title()}Methods:"
    yield f'    """{prefix}.*"""'
    yield ""
    yield "    def __init__(self, transport: Transport) -> None:"
    yield "        self._transport = transport"
    for method in methods:
        yield ""
        yield from _method(method)


def namespaces(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the class that has each prefix as an attribute."""
    yield "class Methods:"
    yield '    """All methods of the contract, by prefix."""'
    yield ""
    yield "    def __init__(self, transport: Transport) -> None:"
    yield from (f"        self.{prefix} = {prefix.title()}Methods(transport)" for prefix in prefixes)


def _method(method: Mapping[str, Any]) -> Iterator[str]:
    params = [param for param in method["params"] if param["name"] != REQUEST_ID]
    params.sort(key=lambda param: not param.get("required"))
    if any(param["name"] == REQUEST_ID for param in method["params"]):
        params.append({"name": REQUEST_ID, "schema": {"type": "string"}})
    words = [_parameter(param) for param in params]
    name = method["name"].partition(".")[2].replace(".", "_")
    name += "_" if keyword.iskeyword(name) else ""
    result = method["result"]["schema"]
    yield from _signature(f"    def {name}", ["self"], words, python_type(result))
    yield from _docstring(2, str(method.get("description") or method["summary"]).split("\n"), _notes(method))
    given = [f"{json.dumps(param['name'])}: {param['name']}" for param in params]
    yield from _fitting("        params: dict[str, Any] = {", given, "}")
    options, limit = f"changes={bool(method.get('x-mutates'))}", _own_limit(method)
    if limit:
        options += ", limit_s=limit_s"
        yield f"        limit_s = {limit}"
    yield f'        found = self._transport.call("{method["name"]}", params, {options})'
    yield f'        return self._transport.record("{method["name"]}", {_read_function(result)}, found)'


def _own_limit(method: Mapping[str, Any]) -> str:
    """Return the expression for the time that the method itself may take; empty if the contract gives no limit."""
    for param in method["params"]:
        name, schema = param["name"], param["schema"]
        if DEFAULT_S in schema:
            return f"{name} or {schema[DEFAULT_S]!r}"
        inner = schema.get("properties", {}).get("timeout_s", {})
        if DEFAULT_S in inner:
            return f'0.0 if {name} is None else {name}.get("timeout_s") or {inner[DEFAULT_S]!r}'
    return ""


def _fitting(start: str, items: list[str], end: str, *, is_tuple: bool = False) -> Iterator[str]:
    """Yield items on one line if they fit, else one per line, as the formatter does."""
    comma = "," if is_tuple and len(items) == 1 else ""
    line = f"{start}{', '.join(items)}{comma}{end}"
    if len(line) <= 120:
        yield line
        return
    pad = " " * (len(start) - len(start.lstrip()))
    yield start
    yield from (f"{pad}    {item}," for item in items)
    yield pad + end


def _parameter(param: Mapping[str, Any]) -> str:
    kind = python_type(param["schema"], is_result=False)
    if param.get("required"):
        return f"{param['name']}: {kind}"
    default = param["schema"].get("default")
    return f"{param['name']}: {kind} = {default!r}" if default is not None else f"{param['name']}: {kind} | None = None"


def python_type(schema: Mapping[str, Any], is_result: bool = True) -> str:
    """Return the annotation of a schema; what goes in may be any sequence or mapping."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "oneOf" in schema:
        kinds = [python_type(one, is_result) for one in schema["oneOf"] if one.get("type") != "null"]
        return " | ".join([*kinds, *(["None"] if len(kinds) < len(schema["oneOf"]) else [])])
    if "const" in schema:
        return type(schema["const"]).__name__
    kind = schema.get("type")
    if kind == "array":
        # A method named `list` would hide the built-in one.
        return f"{'builtins.list' if is_result else 'Sequence'}[{python_type(schema.get('items', {}), is_result)}]"
    if kind == "object":
        values = python_type(schema["additionalProperties"], is_result) if schema.get("additionalProperties") else "Any"
        return f"{'dict' if is_result else 'Mapping'}[str, {values}]"
    if kind in SIMPLE:
        return SIMPLE[kind]
    if not schema:
        return "Any"
    raise BadContract(f"openrpc.json: no Python type for {json.dumps(schema)[:80]}")


def _field_type(name: str, field: str, schema: Mapping[str, Any]) -> str:
    if not field.isidentifier() or keyword.iskeyword(field):
        raise BadContract(f"openrpc.json: {name}.{field} cannot be a field in Python")
    kind = python_type(schema["properties"][field])
    return kind if field in schema.get("required", ()) or kind.endswith("None") else f"{kind} | None"


def _reader(schema: Mapping[str, Any], field: str, is_required: bool) -> str:
    """Return the expression that reads a field from `data`."""
    at = f'data["{field}"]'
    if "$ref" in schema:
        read = f"{python_type(schema)}.from_dict({at})"
        return read if is_required else f'{read} if data.get("{field}") else None'
    if schema.get("type") == "array" and "$ref" in schema.get("items", {}):
        return f"[{python_type(schema['items'])}.from_dict(item) for item in {at}]"
    record = next((one for one in schema.get("oneOf", ()) if "$ref" in one), None)
    if record is not None:
        return f'{python_type(record)}.from_dict({at}) if data.get("{field}") else None'
    may_be_null = any(one.get("type") == "null" for one in schema.get("oneOf", ()))
    return at if is_required and not may_be_null else f'data.get("{field}")'


def _read_function(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return f"{python_type(schema)}.from_dict"
    if schema.get("type") == "array" and "$ref" in schema.get("items", {}):
        return f"lambda rows: [{python_type(schema['items'])}.from_dict(row) for row in rows]"
    return "lambda value: value"


def _described(schema: Mapping[str, Any]) -> list[str]:
    fields = schema.get("properties", {}).items()
    descriptions = [f"{name}: {field['description']}" for name, field in fields if "description" in field]
    return [line for text in descriptions for line in _item(text, 4)]


def _notes(method: Mapping[str, Any]) -> list[str]:
    lines = []
    for param in method["params"]:
        if "description" in param and param["name"] != REQUEST_ID:
            lines += _item(f"{param['name']}: {param['description']}", 8)
    errors = [str(error["message"]).partition(":")[0] for error in method.get("errors", ())]
    if errors:
        lines += [*([""] if lines else []), *_item(f"AgentRefused with rpc_kind {', '.join(errors)}.", 8)]
    return lines


def _item(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, 120 - indent, subsequent_indent="    ")


def _docstring(level: int, text: list[str], notes: list[str]) -> Iterator[str]:
    pad = "    " * level
    paragraphs = [textwrap.wrap(part, 113 - len(pad)) for part in "\n".join(text).split("\n\n")]
    lines = [line for paragraph in paragraphs for line in [*paragraph, ""]][:-1] + (["", *notes] if notes else [])
    lines = [line.replace("\\", "\\\\").replace('"""', "'''") for line in lines]
    if len(lines) == 1:
        yield f'{pad}"""{lines[0]}"""'
    else:
        yield f'{pad}"""{lines[0]}'
        yield from (re.sub(r"\s+$", "", pad + line) for line in lines[1:])
        yield f'{pad}"""'
    if level == 1:
        yield ""


def _signature(start: str, first: list[str], words: list[str], result: str) -> Iterator[str]:
    given = ", ".join([*first, *(["*", *words] if words else [])])
    line = f"{start}({given}) -> {result}:"
    if len(line) <= 120:
        yield line
        return
    yield f"{start}("
    if len(given) <= 110:
        yield f"        {given}"
    else:
        yield from (f"        {word}," for word in [*first, "*", *words])
    yield f"    ) -> {result}:"


if __name__ == "__main__":
    main()
