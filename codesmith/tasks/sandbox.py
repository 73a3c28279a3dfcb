"""Sandboxes on a node: the limits and the network of every command run in a workspace."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from invoke.context import Context

import codesmith
from codesmith.cli import arguments, output
from codesmith.cli.task import task
from codesmith.sdk.api import Sandbox, SandboxDeleted

COLUMNS = ("workspace", "limits", "network", "enforced", "state", "created_at")
WORKSPACE = {"workspace": "The workspace's name."}


@task(
    help={
        **WORKSPACE,
        "memory": "Memory of a command with all it starts, as 512M or 2G (default: no limit).",
        "cpus": "Processors of it, as 1.5 (default: no limit).",
        "tasks": "Processes and threads of it at once (default: no limit).",
        "runtime": "Seconds it may run (default: what the caller allows).",
        "network": "full, or none: no interface but loopback (default: full).",
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
    node: str = "",
    file: str = "",
    json: bool = False,
) -> Sandbox:
    """Put a workspace into a sandbox; what the node cannot enforce is refused."""
    given = {
        "memory_bytes": arguments.parse_size(memory, "--memory"),
        "cpus": cpus,
        "tasks": tasks,
        "runtime_s": runtime,
    }
    limits = {name: value for name, value in given.items() if value is not None}
    with codesmith.connect(node, file) as client:
        sandbox = client.sandbox.create(workspace=workspace, limits=limits, network=network)
    output.show(sandbox, COLUMNS, json=json)
    return sandbox


@task(help=WORKSPACE, harmless=True)
def get(c: Context, workspace: str, node: str = "", file: str = "", json: bool = False) -> Sandbox:
    """Show the sandbox of a workspace."""
    with codesmith.connect(node, file) as client:
        sandbox = client.sandbox.get(workspace=workspace)
    output.show(sandbox, COLUMNS, json=json)
    return sandbox


@task(name="list", harmless=True)
def list_(c: Context, node: str = "", file: str = "", json: bool = False) -> list[Sandbox]:
    """Show the sandboxes of a node."""
    with codesmith.connect(node, file) as client:
        sandboxes = client.sandbox.list()
    output.show(sandboxes, COLUMNS, json=json)
    return sandboxes


@task(help=WORKSPACE)
def delete(c: Context, workspace: str, node: str = "", file: str = "", json: bool = False) -> SandboxDeleted:
    """Take a workspace out of its sandbox; commands that run in it end."""
    with codesmith.connect(node, file) as client:
        deleted = client.sandbox.delete(workspace=workspace)
    output.show(deleted, json=json)
    return deleted
