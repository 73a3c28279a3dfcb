"""Sandboxes on a node: the limits and the network of all that runs in a workspace."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

from codesmith.cli import limit_options, output
from codesmith.cli.limit_options import LIMIT_HELP, NETWORKS, LimitOptions
from codesmith.cli.task import task
from codesmith.fleet import lists, one_node
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import Sandbox, SandboxDeleted
from codesmith.workspace import denied_hosts

COLUMNS = ("workspace", "limits", "network", "enforced", "state", "created_at")
WORKSPACE = {"workspace": "The workspace's name."}


class CreateTask(LimitOptions, OneNode, total=False):
    """The options of sandbox.create."""


@task(help={**WORKSPACE, **LIMIT_HELP}, choices={"network": NETWORKS})
def create(c: Context, workspace: str, **options: Unpack[CreateTask]) -> Sandbox:
    """Put a workspace into a sandbox and end what runs in it; limits that the node cannot enforce are refused.

    Example: sandbox.create demo --memory 2G --allow pypi.org --allow '*.github.com:443'
    """
    limits, network = limit_options.parse_limits(options), limit_options.parse_network(options)
    return one_node.call(
        options, lambda client: client.sandbox.create(workspace=workspace, limits=limits, network=network), COLUMNS
    )


@task(
    help={
        **WORKSPACE,
        "memory": "Memory for all that runs in it together, such as 2G; none removes the limit (default: as it is).",
        "cpus": "Processors for all that runs in it together, such as 1.5; none removes the limit (default: as it is).",
        "tasks": "Processes and threads at once in it; none removes the limit (default: as it is).",
        "runtime": "Seconds that a command may run from now on; none removes the limit (default: as it is).",
        "disk": "Disk for its files, such as 5G; none removes the limit (default: as it is).",
        "network": "full; none; or list: its whole list is what --allow and --deny say (default: as it is).",
        "allow": "A host that it may reach too, such as pypi.org or *.github.com:443; repeatable (default: none).",
        "deny": "A host that it may not reach any more, whatever is allowed; repeatable (default: none).",
        "drop": "A host to take out of both lists; repeatable (default: none).",
        "restart": "End what runs, if the change needs it (default: refuse then).",
        "force": "Set a limit below what is used now; the kernel may end something (default: refuse then).",
    },
    choices={"network": NETWORKS},
)
def update(
    c: Context,
    workspace: str,
    memory: str | None = None,
    cpus: str | None = None,
    tasks: str | None = None,
    runtime: str | None = None,
    disk: str | None = None,
    network: str | None = None,
    allow: list[str] | None = None,
    deny: list[str] | None = None,
    drop: list[str] | None = None,
    restart: bool = False,
    force: bool = False,
    **where: Unpack[OneNode],
) -> Sandbox:
    """Change limits and network of a workspace while it runs.

    Example: sandbox.update demo --memory 4G --runtime none --allow pypi.org
    """
    limits = limit_options.parse_changes(memory=memory, cpus=cpus, tasks=tasks, runtime=runtime, disk=disk)
    lists = limit_options.parse_lists(network, allow, deny, is_new=False)
    single = {"allow": allow, "deny": deny, "drop": drop} if lists is None else {"drop": drop}
    changes = limit_options.parse_given(limits=limits, network=lists, **single)
    return one_node.call(
        where,
        lambda client: client.sandbox.update(
            workspace=workspace, restart=restart or None, force=force or None, **changes
        ),
        COLUMNS,
    )


@task(help=WORKSPACE, harmless=True, watchable=True)
def get(c: Context, workspace: str, **where: Unpack[OneNode]) -> Sandbox:
    """Show the sandbox of a workspace, and each host that its list has refused with the command that allows it.

    Example: sandbox.get shop
    """
    found = one_node.call(where, lambda client: client.sandbox.get(workspace=workspace), COLUMNS)
    for line in denied_hosts.notes(workspace, found.denied):
        output.say(line)
    return found


@task(name="list", harmless=True, watchable=True)
def list_(c: Context, **choice: Unpack[Choice]) -> list[Sandbox] | list[Row]:
    """Show the sandboxes of a node, or of several.

    Example: sandbox.list --json
    """
    return lists.show(choice, lambda client: client.sandbox.list(), COLUMNS)


@task(help=WORKSPACE)
def delete(c: Context, workspace: str, **where: Unpack[OneNode]) -> SandboxDeleted:
    """Remove the sandbox of a workspace; commands that run in it end.

    Example: sandbox.delete shop
    """
    return one_node.call(where, lambda client: client.sandbox.delete(workspace=workspace))
