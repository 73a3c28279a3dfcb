"""An AI agent as a script: the official client, with `codesmith mcp.serve` of one workspace."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from tests.person import BIN

CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "30")


class Agent:
    """What an agent does, in one workspace, with the tools and nothing else."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Use a tool, and return its structured result."""
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer
        return answer.structured_content

    async def is_refused(self, tool: str, **arguments: Any) -> bool:
        """Use a tool, and return whether the answer is an error."""
        return bool((await self.client.call_tool(tool, arguments)).is_error)

    async def run(self, *argv: str, **more: Any) -> CallToolResult:
        """Run a command, and return the whole answer."""
        return await self.client.call_tool("run", {"argv": list(argv), **more})

    async def says(self, script: str, cwd: str = "") -> str:
        """Run a script, and return what it says."""
        done = await self.call("run", argv=["bash", "-c", f"({script}) 2>&1"], **({"cwd": cwd} if cwd else {}))
        return str(done["stdout"])

    async def fetches(self, url: str) -> bool:
        """Fetch a page, and return whether it came."""
        return (await self.call("run", argv=[*CURL, url]))["exit_code"] == 0

    async def facts(self) -> Any:
        """Return what the workspace tells of itself."""
        return json.loads((await self.call("file_read", path=".codesmith/workspace.json"))["data"])

    async def follow(self, job: str) -> str:
        """Return what a job writes until it ends."""
        data, after = "", 0
        while True:
            piece = await self.call("job_output", id=job, after=after)
            data, after = data + piece["data"], piece["next_offset"]
            if piece["eof"]:
                return data
            await anyio.sleep(0.05)


@contextlib.asynccontextmanager
async def agent(environment: Mapping[str, str], *words: str) -> AsyncIterator[Agent]:
    """Start `codesmith WORDS`, the server of one workspace, for an agent; the client is that of the official SDK."""
    server = StdioServerParameters(command=str(BIN / "codesmith"), args=list(words), env=dict(environment))
    async with Client(server) as client:
        yield Agent(client)
