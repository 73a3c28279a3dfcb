"""The MCP server as others test theirs: the Inspector's command line, and the conformance suite of the protocol.

The suite wants an HTTP server that has its fixtures. `http_bridge` is that server. What needs a fixture, or something
of MCP that CodeSmith does not offer, is expected to fail here: those and no others.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.mcp.http_bridge import bridge
from tests.npm_programs import CONFORMANCE, INSPECTOR, Programs, install
from tests.person import BIN, Person

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # npm downloads the programs, once
SERVE = (str(BIN / "codesmith"), "mcp.serve", "demo")
# Why scenarios fail that have to, by their names. Here and in codesmith/mcp/README.md.
EXPECTED = {
    "it offers tools alone, as its capabilities say: no prompts, resources, completion, logging, tasks or questions": (
        "caching", "completion-complete", "input-required-result-non-tool-request", "logging-set-level", "prompts-*",
        "resources-*", "tasks-*",
    ),
    "they call a tool of the suite's own (test_*), which it has not": (
        "elicitation-*", "input-required-result-*", "json-schema-2020-12", "server-stateless", "tools-call-*",
        "http-custom-header-server-validation",
    ),
    "they are about HTTP, where the bridge of the test answers": ("dns-rebinding-protection", "http-header-validation"),
}  # fmt: skip
# All that fails of `server-stateless`: what wants a tool of the suite, and two statuses of HTTP.
STATELESS = {
    "sep-2575-http-server-header-mismatch-400",
    "sep-2575-http-server-method-not-found-404-initialize",
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-no-log-without-loglevel",
    "sep-2575-server-rejects-undeclared-capability",
}
# What applies to it of the revision with a handshake; each scenario there starts servers of its own.
APPLIES = ("server-initialize", "server-session-lifecycle", "ping", "tools-list", "server-sse-multiple-streams")
SHORT = ("server-session-lifecycle", "tools-list")
# Of each scenario: on a busy machine a server may take long to start.
PATIENCE = ("--timeout", "120000")
Checks = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def programs() -> Programs:
    return install()


@pytest.fixture(scope="module")
def ada(make_person: Callable[..., Person]) -> Iterator[Person]:
    person = make_person({"web1": "bookworm"})
    person.runs("inv node.prepare && inv workspace.create demo")
    yield person


@pytest.fixture
def inspect(ada: Person, programs: Programs, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Type `mcp-inspector --cli` with the server of the file that `mcp.config` writes."""
    file = tmp_path / ".mcp.json"
    ada.runs(f"codesmith mcp.config demo --client claude --write {file}")
    server = ("--config", str(file), "--server", "codesmith-demo", "-e", f"CODESMITH_HOME={ada.home}")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*programs.command(INSPECTOR), "--cli", *server, "--method", *words]
        return subprocess.run(argv, env=ada.environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    return run


@pytest.fixture
def conform(ada: Person, programs: Programs, tmp_path: Path) -> Callable[..., Checks]:
    """Run scenarios of the conformance suite; return the checks of each."""

    def run(*words: str) -> Checks:
        with bridge(SERVE, ada.environment) as server:
            argv = [
                *programs.command(CONFORMANCE),
                "server",
                "--url",
                server.url,
                *PATIENCE,
                *words,
                "-o",
                str(tmp_path),
            ]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=500)
        found = {file.parent.name: json.loads(file.read_text()) for file in tmp_path.glob("*/checks.json")}
        assert found, done.stdout + done.stderr
        # server-SCENARIO-2026-11-30T...
        return {re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*", "", name): checks for name, checks in found.items()}

    return run


def failures(checks: Checks) -> dict[str, set[str]]:
    """Return what failed: ids of checks by scenario."""
    return {
        name: ids
        for name, found in checks.items()
        if (ids := {one["id"] for one in found if one["status"] == "FAILURE"})
    }


def unexplained(checks: Checks) -> list[str]:
    """Return the scenarios that failed without a reason to."""
    patterns = [pattern for some in EXPECTED.values() for pattern in some]
    return [name for name in failures(checks) if not any(fnmatchcase(name, pattern) for pattern in patterns)]


@pytest.mark.long
def test_the_inspector_finds_nothing_to_complain_about_and_tools_are_short(
    inspect: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = inspect("tools/list", "--strict")
    assert done.returncode == 0
    assert not re.search("^(Error|Warning): tool", done.stderr, re.M), done.stderr
    tools = json.loads(done.stdout)["tools"]
    assert len(tools) == 13
    # A client may give all of it to its model with each request.
    assert len(json.dumps(tools)) < 40_000
    for tool in tools:
        schema = tool["outputSchema"]
        assert set(re.findall('"#/([^"]+)"', json.dumps(schema))) == {
            f"$defs/{name}" for name in schema.get("$defs", {})
        }


@pytest.mark.long  # test_mcp.py uses every tool with another client
def test_the_inspector_uses_tools_and_shows_what_is_refused(
    inspect: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    def call(tool: str, *arguments: str) -> Any:
        done = inspect("tools/call", "--tool-name", tool, *(word for one in arguments for word in ("--tool-arg", one)))
        return done.returncode, json.loads(done.stdout)

    told = json.loads(inspect("initialize").stdout)
    assert (told["serverInfo"]["name"], list(told["capabilities"])) == ("codesmith", ["tools"])
    code, ran = call("run", 'argv=["sh", "-c", "id -un; exit 3"]')
    assert (code, ran["structuredContent"]["stdout"], ran["structuredContent"]["exit_code"]) == (0, "cs-demo\n", 3)
    assert call("file_write", "path=notes.txt", "data=one")[0] == 0
    assert "notes.txt" in [one["path"] for one in call("file_list")[1]["structuredContent"]["items"]]
    # A refusal comes as it is: a client checks structured content with the schema of the tool's result.
    code, answer = call("file_read", "path=missing")
    assert code != 0
    assert answer["content"][0]["text"].startswith("error (not_found): missing")
    assert answer["content"][0]["text"].endswith("\nhint: use the tool file_list")
    assert (answer["isError"], answer["_meta"]["codesmith/error"]["kind"]) == (True, "not_found")
    assert "structuredContent" not in answer


@pytest.mark.long
@pytest.mark.parametrize("scenario", SHORT)
def test_conformance_of_the_revision_with_a_handshake(conform: Callable[..., Checks], scenario: str) -> None:
    checks = conform("--spec-version", "2025-11-25", "--scenario", scenario)
    assert failures(checks) == {}
    assert "SUCCESS" in [one["status"] for one in checks[scenario]]


def test_conformance_of_the_newest_revision(conform: Callable[..., Checks]) -> None:
    checks = conform("--requirements", "2026-07-28")
    assert unexplained(checks) == []
    assert failures(checks)["server-stateless"] == STATELESS
    assert not {"tools-list", "server-sse-multiple-streams"} & set(failures(checks))
    assert len(checks["server-stateless"]) > 20
    # Each message of each scenario is what the schema of the protocol says.
    assert "wire-schema-valid" not in set().union(*failures(checks).values())


@pytest.mark.long
def test_every_scenario_of_the_revision_with_a_handshake(conform: Callable[..., Checks]) -> None:
    checks = conform("--spec-version", "2025-11-25", "--suite", "all")
    assert unexplained(checks) == []
    assert set(APPLIES) <= set(checks) - set(failures(checks))
