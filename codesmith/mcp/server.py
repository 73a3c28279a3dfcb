"""The server: MCP on standard input and output, one workspace, over a token of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from codesmith import __version__
from codesmith.errors import AgentRefused, CodeSmithError
from codesmith.mcp import denied
from codesmith.mcp.run import Command
from codesmith.mcp.tools import Tool, Toolbox
from codesmith.sdk.api import Job

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

INSTRUCTIONS = """\
You work in the workspace {workspace} on a remote Linux machine, as a user without root. Paths are relative to the
workspace. Read .codesmith/AGENTS.md first: what holds there now (limits, network), and how to show a page. What takes
minutes belongs into job_start; read what it writes with job_output. When a host is denied, ask the operator: the result
has the command that allows it.
"""
CALLS_AT_ONCE = 16
# Where an error has its kind, message and hint for programs: in the _meta of the result.
ERROR = "codesmith/error"


class Workspace:
    """The workspace of this server: calls its methods, each in a thread of its own with a client of its own."""

    def __init__(self, name: str, connect: Callable[[], Client], *, read_only: bool) -> None:
        self.name, self._connect = name, connect
        with connect() as client:
            self.toolbox = Toolbox(client.discover(), read_only=read_only)

    def list_tools(self) -> list[types.Tool]:
        """Return the tools as MCP describes them."""
        return [
            types.Tool(
                name=tool.name,
                description=tool.text,
                input_schema=self.toolbox.input_schema(tool),
                output_schema=self.toolbox.output_schema(tool),
                annotations=_annotations(tool),
            )
            for tool in self.toolbox.tools.values()
        ]

    def call(self, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a tool other than `run`, and return its structured result."""
        given, method = tool.params(arguments), tool.method
        if tool.name == "repo_sync":
            method = f"repo.{given.pop('direction')}"
        key = "name" if method.startswith("workspace.") else "workspace"
        with self._connect() as client:
            limit_s = float(given.get("timeout_s") or (600 if tool.name.startswith("repo") else 30))
            found = client.call(method, {**given, key: self.name}, changes=not tool.is_read_only, limit_s=limit_s)
            result: dict[str, Any] = {"items": found} if isinstance(found, list) else dict(found)
            if tool.name == "job_output":
                denied.add(client, [client.job.get(workspace=self.name, id=arguments["id"])], [result])
            elif tool.name == "job_list":
                denied.add(client, [Job.from_dict(one) for one in result["items"]], result["items"])
        return result

    def command(self, arguments: dict[str, Any]) -> Command:
        """Return the command of the tool `run`."""
        return Command(self._connect(), self.name, arguments)

    def denied(self) -> dict[tuple[str, int], int]:
        """Return how often the network kept out which host; nothing without an allow-list."""
        with suppress(CodeSmithError), self._connect() as client:
            found = client.sandbox.get(workspace=self.name).denied
            return {(one.host, one.port): one.count for one in found}
        return {}


def serve(workspace: Workspace) -> None:
    """Serve until standard input ends; standard output carries the protocol alone."""
    anyio.run(_serve, workspace)


async def _serve(workspace: Workspace) -> None:
    limit = anyio.CapacityLimiter(CALLS_AT_ONCE)

    async def on_list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=workspace.list_tools())

    async def on_call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool, arguments = workspace.toolbox.tools.get(params.name), dict(params.arguments or {})
        if tool is None:  # the only mistake that is no answer to read, says the protocol
            known = ", ".join(workspace.toolbox.tools)
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name} (known: {known})")
        try:
            workspace.toolbox.check(tool, arguments)
            if tool.name == "run":
                return await _run(workspace, arguments, context, limit)
            found = await anyio.to_thread.run_sync(
                workspace.call, tool, arguments, abandon_on_cancel=True, limiter=limit
            )
            return _answer(found, "\n".join([json.dumps(found), *denied.lines(workspace.name, found)]))
        except CodeSmithError as error:
            return _refusal(error, workspace.toolbox)

    server: Server[Any] = Server(
        "codesmith",
        version=__version__,
        instructions=INSTRUCTIONS.format(workspace=workspace.name),
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def _run(
    workspace: Workspace, arguments: dict[str, Any], context: Any, limit: anyio.CapacityLimiter
) -> types.CallToolResult:
    before = await anyio.to_thread.run_sync(workspace.denied, limiter=limit)
    command, token = workspace.command(arguments), (context.meta or {}).get("progress_token")
    state: dict[str, Any] = {"size": 0, "line": ""}
    changed = threading.Event()

    def note(size: int, line: str) -> None:
        state.update(size=size, line=line.rstrip().rpartition("\n")[2])
        changed.set()

    def size() -> float:
        return float(state["size"])

    async def report() -> None:
        while True:
            await anyio.sleep(1)
            if changed.is_set():
                changed.clear()
                await context.session.send_progress_notification(
                    token, size(), message=str(state["line"]), related_request_id=str(context.request_id)
                )

    async with anyio.create_task_group() as group:
        if token is not None:
            group.start_soon(report)
        try:
            found = await anyio.to_thread.run_sync(command.run, note, abandon_on_cancel=True, limiter=limit)
        except anyio.get_cancelled_exc_class():
            command.cancel()
            raise
        except CodeSmithError as error:  # the group would wrap it
            return _refusal(error, workspace.toolbox)
        finally:
            group.cancel_scope.cancel()
    if found["exit_code"] != 0:
        after = await anyio.to_thread.run_sync(workspace.denied, limiter=limit)
        found["denied"] = [
            f"{host}:{port}" for (host, port), count in after.items() if count > before.get((host, port), 0)
        ]
    return _answer(found, _shown(workspace.name, found))


def _shown(workspace: str, found: dict[str, Any]) -> str:
    """Return what a command wrote and how it ended, as text."""
    lines = [found["stdout"].rstrip("\n"), found["stderr"].rstrip("\n")]
    if found["omitted_bytes"]:
        lines.append(
            f"[{found['omitted_bytes']} bytes are left out; write into a file and use file_read for all of it]"
        )
    lines.append(f"[exit code {found['exit_code']}{', ended by ' + found['killed_by'] if found['killed_by'] else ''}]")
    return "\n".join(line for line in [*lines, *denied.lines(workspace, found)] if line)


def _answer(found: dict[str, Any], text: str) -> types.CallToolResult:
    content = types.TextContent(type="text", text=text)
    return types.CallToolResult(content=[content], structured_content=found)


def _refusal(error: CodeSmithError, toolbox: Toolbox) -> types.CallToolResult:
    kind = error.rpc_kind if isinstance(error, AgentRefused) else error.kind
    what = {"kind": kind, "message": error.problem, "hint": toolbox.hint(error.hint)}
    text = f"error ({kind}): {error.problem}" + (f"\nhint: {what['hint']}" if error.hint else "")
    content = types.TextContent(type="text", text=text)
    # Not as structured content: that has to match the tool's schema, and clients refuse it when it does not.
    return types.CallToolResult(content=[content], is_error=True, _meta={ERROR: what})


def _annotations(tool: Tool) -> types.ToolAnnotations:
    read_only, destructive, idempotent, open_world = tool.hints
    return types.ToolAnnotations(
        read_only_hint=read_only, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=open_world
    )
