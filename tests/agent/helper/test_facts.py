"""What a workspace is told of itself, for each kind of network."""

from __future__ import annotations

from typing import Any

import pytest

from agent.helper.runtime import facts, facts_text
from agent.helper.runtime.entry import Entry
from agent.helper.runtime.sandboxes import Sandbox

LIST = {"allow": ["pypi.org", "*.github.com:443"], "deny": ["gist.github.com"]}


def tell(network: Any = None, **limits: float) -> tuple[dict[str, Any], str]:
    """Return the facts of a workspace, and their text."""
    sandbox = None if network is None else Sandbox("demo", limits, network)
    found = facts.describe(Entry("demo", 70001, sandbox), idle_stop_s=300.0)
    return found, facts_text.render(found)


@pytest.mark.parametrize(
    ("network", "command"),
    [
        ("full", None),
        ("none", "codesmith sandbox.update demo --network list --allow HOST --restart"),
        (LIST, "codesmith sandbox.update demo --allow HOST"),
    ],
)
def test_the_network_is_told_with_the_command_that_opens_it(network: Any, command: str | None) -> None:
    found, text = tell(network)
    assert (found["network"], found["operator"]["allow_host"]) == (network, command)
    assert command is None or f"`{command}`" in text
    assert ("http://127.0.0.1:3128" in text) == (found["proxy"] is not None) == (network is LIST)
    if network is LIST:
        assert all(f"- allowed: `{host}`" in text for host in LIST["allow"])
        assert "- denied, whatever is allowed: `gist.github.com`" in text


def test_limits_are_told_with_what_happens_beyond_them() -> None:
    limits = {"memory_bytes": 256 << 20, "tasks": 100, "cpus": 1.5, "runtime_s": 60.0}
    found, text = tell("full", **limits)
    assert found["limits"] == limits
    for words in ("268,435,456 bytes", "Processors: 1.5", "100 at once", "after 60 seconds", "--memory SIZE"):
        assert words in text
    assert "None but what the node has." in tell()[1]


def test_an_agent_is_told_of_jobs_ports_and_what_there_is_not() -> None:
    text = tell()[1]
    for word in ("start --name web -- ", "list", "logs -f web", "stop web"):
        assert f"codesmith-job {word}" in text
    assert "codesmith workspace.forward demo PORT" in text
    assert "No root, no packages of the system (apt), no containers" in text
    assert "{" not in text
