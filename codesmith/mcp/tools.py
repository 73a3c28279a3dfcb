"""The tools: which method each calls, and its schemas, which are those of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesmith.errors import BadArgument
from codesmith.mcp import denied

# What a tool never has as an argument: the server is of one workspace, and repeats no call.
OWN = ("workspace", "name", "request_id", "ends_with_stream", "tty", "stdin")
# Methods whose `name` is not the workspace's.
NAMED = ("job.start", "repo.clone", "repo.pull", "repo.push")


@dataclass(frozen=True)
class Tool:
    """One tool. `method` is that of the contract; `hints` are read_only, destructive, idempotent, open_world."""

    name: str
    method: str
    text: str
    hints: tuple[bool, bool, bool, bool]
    renamed: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def is_read_only(self) -> bool:
        """Whether it changes nothing."""
        return self.hints[0]

    def names(self, param: str) -> bool:
        """Return whether a parameter of the method is an argument of the tool."""
        is_own = param in OWN and not (param == "name" and self.method in NAMED)
        return not is_own and param not in self.left_out

    def params(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as the method takes them, without the workspace."""
        back = {shown: name for name, shown in self.renamed}
        return {back.get(name, name): value for name, value in arguments.items()}


REFERENCE = re.compile(r'"#/components/schemas/(\w+)"')


def _or_null(kind: str) -> dict[str, Any]:
    """Return the schema of a value that may be null, as clients understand it that know one type for each schema."""
    return {"anyOf": [{"type": kind}, {"type": "null"}]}


RUN = {
    "type": "object",
    "properties": {
        "exit_code": _or_null("integer"),
        "signal": _or_null("string"),
        "killed_by": _or_null("string"),
        "duration_s": {"type": "number"},
        "stdout": {"type": "string"},
        "stderr": {"type": "string"},
        "encoding": {"type": "string", "enum": ["text", "base64"]},
        "omitted_bytes": {"type": "integer", "description": "Left out between the first and the last part."},
        "denied": denied.SCHEMA,
    },
    "required": ["exit_code", "signal", "killed_by", "duration_s", "stdout", "stderr", "encoding", "omitted_bytes"],
}
# read_only, destructive, idempotent, open_world
LOOK, CHANGE, DESTROY = (True, False, True, False), (False, False, False, False), (False, True, False, True)
TOOLS = (
    Tool("run", "job.start", "Run a command in the workspace and wait for its end. argv is the program and its "
         "arguments, no shell; for a shell: [\"sh\", \"-c\", \"...\"]. Of long output both ends are kept. "
         "For what takes minutes use job_start.", DESTROY, left_out=("name",)),
    Tool("job_start", "job.start", "Start a command that goes on by itself, such as a server or a long build; "
         "read what it writes with job_output.", DESTROY),
    Tool("job_output", "job.logs", "Return a piece of what a job wrote, from `after` on; pass next_offset as `after` "
         "to read on. eof says that it has ended.", LOOK, renamed=(("offset", "after"),)),
    Tool("job_stop", "job.stop", "End a job with all it started.", (False, True, True, False)),
    Tool("job_list", "job.list", "List the jobs of the workspace, newest first.", LOOK),
    Tool("file_read", "file.read", "Read a piece of a file; next_offset is where to read on.", LOOK),
    Tool("file_write", "file.write", "Write a whole file, or nothing of it.", (False, True, True, False)),
    Tool("file_edit", "file.edit", "Replace one exact occurrence of a text in a file.", (False, True, False, False)),
    Tool("file_list", "file.list", "List a directory.", LOOK),
    Tool("file_search", "file.search", "Find lines that match a pattern in the files below a directory.", LOOK),
    Tool("repo_clone", "repo.clone", "Clone a git repository into the workspace.", (False, False, False, True)),
    Tool("repo_sync", "repo.pull", "Pull or push a repository of the workspace (direction).", DESTROY),
    Tool("usage", "workspace.usage", "Show the memory, CPU, disk and network that the workspace uses.", LOOK),
)  # fmt: skip


class Toolbox:
    """The tools as one node's contract has them; with `read_only` those that only look."""

    def __init__(self, document: Mapping[str, Any], *, read_only: bool) -> None:
        self._methods = {entry["name"]: entry for entry in document["methods"]}
        self._records = document.get("components", {}).get("schemas", {})
        self.tools = {
            tool.name: tool for tool in TOOLS if tool.method in self._methods and (tool.is_read_only or not read_only)
        }
        self._checks: dict[str, Any] = {}

    def input_schema(self, tool: Tool) -> dict[str, Any]:
        """Return the schema of a tool's arguments: those of its method, without the workspace."""
        rename, found, required = dict(tool.renamed), {}, []
        if tool.name == "repo_sync":
            found["direction"] = {"type": "string", "enum": ["pull", "push"]}
            required.append("direction")
        for param in self._methods[tool.method]["params"]:
            if tool.names(param["name"]):
                shown = rename.get(param["name"], param["name"])
                text = {"description": param["description"]} if "description" in param else {}
                found[shown] = {**param["schema"], **text}
                required += [shown] if param["required"] else []
        return self._whole({"type": "object", "properties": found, "required": required, "additionalProperties": False})

    def output_schema(self, tool: Tool) -> dict[str, Any]:
        """Return the schema of a tool's structured result: that of its method, a list as {items}."""
        if tool.name == "run":
            return RUN
        schema = self._methods[tool.method]["result"]["schema"]
        if schema.get("type") == "array":
            schema = self._whole({"type": "object", "properties": {"items": schema}, "required": ["items"]})
            if tool.name == "job_list":
                schema["$defs"]["Job"]["properties"]["denied"] = denied.SCHEMA
            return schema
        name = schema.get("$ref", "").rpartition("/")[2]
        schema = self._whole(self._records[name] if name else schema)
        if tool.name == "job_output":
            schema["properties"]["denied"] = denied.SCHEMA
        return schema

    def check(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        """Raise BadArgument unless arguments match the tool's schema: the SDK does not look."""
        import fastjsonschema

        if tool.name not in self._checks:
            self._checks[tool.name] = fastjsonschema.compile(self.input_schema(tool))
        try:
            self._checks[tool.name](dict(arguments))
        except fastjsonschema.JsonSchemaValueException as error:
            problem = (error.definition or {}).get("errorMessage") or str(error.message).replace("data", "it", 1)
            where = ".".join(map(str, error.path[1:]))
            raise BadArgument(f"{tool.name}: {where} {problem}".replace(":  ", ": ")) from None

    def hint(self, hint: str) -> str:
        """Return a hint as an agent can follow it: the tool for a command that is one, or whose command it is."""
        command = re.match(r"inv (\w+\.\w+)", hint)
        if command is None:
            return hint
        named = [tool.name for tool in self.tools.values() if tool.method == command[1]]
        return (
            f"use the tool {named[0]}" if named else f"a command for the operator: {hint.replace('inv ', 'codesmith ')}"
        )

    def _whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema that stands alone: with the records that it refers to, and no others."""
        records: dict[str, Any] = {}
        todo = [schema]
        while todo:
            for name in set(REFERENCE.findall(json.dumps(todo.pop()))) - set(records):
                records[name] = self._records[name]
                todo.append(records[name])
        whole = {**schema, "$defs": dict(sorted(records.items()))} if records else schema
        found: dict[str, Any] = json.loads(json.dumps(whole).replace('"#/components/schemas/', '"#/$defs/'))
        return found
