"""The MCP server of a workspace on a real node, as the official client drives it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

from tests.person import BIN, Person

NAMES = [
    "file_edit", "file_list", "file_read", "file_search", "file_write", "job_list", "job_output", "job_start",
    "job_stop", "repo_clone", "repo_sync", "run", "usage",
]  # fmt: skip
# Of the protocol: with the handshake that clients of today make, and the newest, which has none.
REVISIONS = ("2025-11-25", "2026-07-28")
every_revision = pytest.mark.parametrize(
    "revision", [*(pytest.param(older, marks=pytest.mark.long) for older in REVISIONS[:-1]), REVISIONS[-1]]
)
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}  # fmt: skip
READING = ["file_list", "file_read", "file_search", "job_list", "job_output", "usage"]


@pytest.fixture(scope="module")
def ada(make_person: Callable[..., Person]) -> Iterator[Person]:
    person = make_person({"web1": "bookworm"})
    person.prepare()
    person.runs("inv workspace.create demo && inv workspace.create other")
    yield person


@contextlib.asynccontextmanager
async def session(ada: Person, *options: str, revision: str = REVISIONS[-1]) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=str(BIN / "codesmith"), args=["mcp.serve", "demo", *options], env=ada.environment
    )
    async with Client(server, mode="legacy" if revision == REVISIONS[0] else revision) as client:
        assert client.protocol_version == revision
        yield client


def talk(ada: Person, work: Callable[[Client], Any], *options: str, revision: str = REVISIONS[-1]) -> Any:
    async def all_of_it() -> Any:
        with anyio.fail_after(120):
            async with session(ada, *options, revision=revision) as client:
                return await work(client)

    return anyio.run(all_of_it)


@every_revision
def test_thirteen_tools_with_schemas_of_the_contract(ada: Person, revision: str) -> None:
    async def work(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in talk(ada, work, revision=revision)}
    assert sorted(tools) == NAMES
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert not {"workspace", "request_id"} & set(tool.input_schema["properties"])
        assert tool.annotations.read_only_hint == (tool.name in READING)


def test_a_client_that_asks_gets_the_newest_revision(ada: Person) -> None:
    async def ask() -> tuple[str, str | None]:
        argv = {"command": str(BIN / "codesmith"), "args": ["mcp.serve", "demo"], "env": ada.environment}
        async with Client(StdioServerParameters(**argv), mode="auto") as client:
            return client.protocol_version, client.instructions

    revision, instructions = anyio.run(ask)
    assert revision == REVISIONS[-1]
    assert ".codesmith/AGENTS.md" in str(instructions) and "workspace demo" in str(instructions)


@every_revision
def test_a_day_of_work(ada: Person, revision: str) -> None:
    async def work(client: Client) -> None:
        ran = await client.call_tool("run", {"argv": ["sh", "-c", "id -un; echo oops >&2; exit 3"]})
        assert not ran.is_error
        assert ran.structured_content["exit_code"] == 3
        assert (ran.structured_content["stdout"], ran.structured_content["stderr"]) == ("cs-demo\n", "oops\n")
        assert "[exit code 3]" in ran.content[0].text
        await client.call_tool("file_write", {"path": "notes.txt", "data": "one\ntwo\n"})
        await client.call_tool("file_edit", {"path": "notes.txt", "old": "two", "new": "three"})
        read = await client.call_tool("file_read", {"path": "notes.txt"})
        assert read.structured_content["data"] == "one\nthree\n"
        found = await client.call_tool("file_search", {"pattern": "three"})
        assert [one["line"] for one in found.structured_content["items"]] == [2]
        listed = await client.call_tool("file_list", {})
        assert "notes.txt" in [one["path"] for one in listed.structured_content["items"]]
        started = await client.call_tool(
            "job_start", {"argv": ["sh", "-c", "echo begun; exec sleep 1000"], "name": "web"}
        )
        job = started.structured_content["id"]
        data, after = "", 0
        while "begun" not in data:
            piece = (await client.call_tool("job_output", {"id": job, "after": after})).structured_content
            data, after = data + piece["data"], piece["next_offset"]
        assert (await client.call_tool("job_stop", {"id": job})).structured_content["state"] == "killed"
        assert (await client.call_tool("usage", {})).structured_content["disk_bytes"] > 0

    talk(ada, work, revision=revision)
    records = ada.runs("inv audit.list --workspace demo --json").json
    assert {one["token"]["label"] for one in records if one["token"]} == {"mcp"}
    assert ada.runs("inv token.list --json").json == []


@every_revision
def test_errors_are_results_with_kind_and_hint(ada: Person, revision: str) -> None:
    async def work(client: Client) -> None:
        for tool, arguments, kind in (
            ("run", {}, "BadArgument"),
            ("run", {"argv": ["true"], "workspace": "other"}, "BadArgument"),
            ("file_read", {"path": "missing"}, "not_found"),
            ("file_read", {"path": "../other/AGENTS.md"}, None),
            ("job_stop", {"id": "0" * 12}, "not_found"),
        ):
            answer = await client.call_tool(tool, arguments)
            assert answer.is_error, (tool, arguments)
            assert kind in (None, answer.meta["codesmith/error"]["kind"]), answer
            assert answer.content[0].text.startswith("error")
            assert answer.structured_content is None, "it would have to match the schema of the tool's result"
        with pytest.raises(MCPError, match=r"Unknown tool: nothing \(known: run, ") as unknown:
            await client.call_tool("nothing", {})
        assert unknown.value.error.code == INVALID_PARAMS

    talk(ada, work, revision=revision)


def test_long_and_binary_outputs(ada: Person) -> None:
    async def work(client: Client) -> None:
        long = (await client.call_tool("run", {"argv": ["sh", "-c", "seq 1 300000"]})).structured_content
        assert long["omitted_bytes"] > 1_000_000
        assert long["stdout"].startswith("1\n2\n")
        assert long["stdout"].endswith("300000\n")
        binary = (await client.call_tool("run", {"argv": ["printf", "\\377\\000"]})).structured_content
        assert (binary["encoding"], binary["stdout"]) == ("base64", "/wA=")
        await client.call_tool("file_write", {"path": "b", "data": "/wA=", "encoding": "base64"})
        read = (await client.call_tool("file_read", {"path": "b"})).structured_content
        assert (read["encoding"], read["data"]) == ("base64", "/wA=")

    talk(ada, work)


@every_revision
def test_a_cancelled_run_ends_on_the_node(ada: Person, revision: str) -> None:
    async def work(client: Client) -> None:
        lines: list[str] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            lines.append(message or "")
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            argv = ["sh", "-c", "echo begun; exec sleep 4242"]
            await client.call_tool("run", {"argv": argv}, progress_callback=progress)
        assert lines == ["begun"]
        while (await client.call_tool("run", {"argv": ["pgrep", "-f", "sleep 424[2]"]})).structured_content["stdout"]:
            await anyio.sleep(0.1)

    talk(ada, work, revision=revision)


def test_read_only(ada: Person) -> None:
    async def work(client: Client) -> None:
        assert sorted(one.name for one in (await client.list_tools()).tools) == READING
        with pytest.raises(MCPError, match="Unknown tool: run"):
            await client.call_tool("run", {"argv": ["true"]})
        assert not (await client.call_tool("file_list", {})).is_error

    talk(ada, work, "--read-only")


def test_it_ends_with_its_client_and_standard_output_is_the_protocols(ada: Person) -> None:
    argv = [str(BIN / "codesmith"), "mcp.serve", "demo"]
    done = subprocess.run(
        argv, env=ada.environment, input=json.dumps(INITIALIZE) + "\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in done.stdout.splitlines())
    assert ada.runs("inv token.list --json").json == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_no_token(ada: Person, tmp_path: Path, number: signal.Signals) -> None:
    argv = [str(BIN / "codesmith"), "mcp.serve", "demo"]
    environment = {**ada.environment, "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as serving:
        assert serving.stdin is not None and serving.stdout is not None
        serving.stdin.write(json.dumps(INITIALIZE) + "\n")
        serving.stdin.flush()
        assert json.loads(serving.stdout.readline())["id"] == 1
        assert [one["label"] for one in ada.runs("inv token.list --json").json] == ["mcp"]
        serving.send_signal(number)
        # Its standard input is still open.
        assert serving.wait(30) == (2 if number == signal.SIGINT else 128 + number)
    assert ada.runs("inv token.list --json").json == []
    assert list(tmp_path.iterdir()) == []


def test_config(ada: Person, tmp_path: Path) -> None:
    file = tmp_path / ".mcp.json"
    file.write_text('{"mcpServers": {"mine": {"command": "x"}}}')
    ada.runs(f"inv mcp.config demo --write {file}")
    servers = json.loads(file.read_text())["mcpServers"]
    assert sorted(servers) == ["codesmith-demo", "mine"]
    assert Path(servers["codesmith-demo"]["command"]).is_absolute()
    assert (
        json.loads(ada.runs("inv mcp.config demo --client vscode").out)["servers"]["codesmith-demo"]["type"] == "stdio"
    )
    assert ada.runs("inv mcp.config demo --client codex").out.startswith("[mcp_servers.codesmith-demo]\n")


def test_without_the_package_an_error_names_it(ada: Person) -> None:
    start = "from codesmith.__main__ import main; sys.argv[1:] = ['mcp.serve', 'demo']; main()"
    hide = f"import sys; sys.modules['mcp'] = None; {start}"
    done = subprocess.run([sys.executable, "-c", hide], env=ada.environment, capture_output=True, text=True)
    assert "codesmith[mcp]" in done.stderr, done.stderr
