"""Sandboxes on a node: the limits and the network of all that runs in a workspace."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

from codesmith.cli import arguments
from codesmith.cli.task import task
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import Sandbox, SandboxDeleted

COLUMNS = ("workspace", "limits", "network", "enforced", "state", "created_at")
WORKSPACE = {"workspace": "The workspace's name."}


@task(
    help={
        **WORKSPACE,
        "memory": "Memory for all that runs in it together, such as 512M or 2G (default: no limit).",
        "cpus": "Processors for all that runs in it together, such as 1.5 (default: no limit).",
        "tasks": "Processes and threads at once in it (default: no limit).",
        "runtime": "Seconds that a command may run (default: the time limit of the call).",
        "network": "full, or none, which leaves only loopback (default: full).",
    },
    choices={"network": ("full", "none")},
)
def create(
    c: Context,
    workspace: str,
    memory: str | None = None,
    cpus: float | None = None,
    tasks: int | None = None,
    runtime: float | None = None,
    network: str = "full",
    **where: Unpack[OneNode],
) -> Sandbox:
    """Put a workspace into a sandbox and end what runs in it; limits that the node cannot enforce are refused."""
    given = {
        "memory_bytes": arguments.parse_size(memory, "--memory"),
        "cpus": cpus,
        "tasks": tasks,
        "runtime_s": runtime,
    }
    limits = {name: value for name, value in given.items() if value is not None}
    return one_node.call(
        where, lambda client: client.sandbox.create(workspace=workspace, limits=limits, network=network), COLUMNS
    )


@task(help=WORKSPACE, harmless=True)
def get(c: Context, workspace: str, **where: Unpack[OneNode]) -> Sandbox:
    """Show the sandbox of a workspace."""
    return one_node.call(where, lambda client: client.sandbox.get(workspace=workspace), COLUMNS)


@task(name="list", harmless=True)
def list_(c: Context, **where: Unpack[OneNode]) -> list[Sandbox]:
    """Show the sandboxes of a node."""
    return one_node.call(where, lambda client: client.sandbox.list(), COLUMNS)


@task(help=WORKSPACE)
def delete(c: Context, workspace: str, **where: Unpack[OneNode]) -> SandboxDeleted:
    """Remove the sandbox of a workspace; commands that run in it end."""
    return one_node.call(where, lambda client: client.sandbox.delete(workspace=workspace))
