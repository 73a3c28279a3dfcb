"""Nodes: the registry, the way to them, and the life of their agents."""
# ruff: noqa: A002, ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from functools import partial
from typing import Any

from invoke.context import Context

from codesmith import fleet, output, service
from codesmith.task import task

Rows = list[dict[str, Any]]
MANY = {"node": "Node name from nodes.yaml; repeatable (default: CODESMITH_NODE, then `default:`, then the only node)."}
EVERY = {"node": "Node name from nodes.yaml; repeatable (default: every node there)."}
STATE = ("name", "host", "endpoint", "state", "since", "agent_version", "reason")


@task(
    help={**EVERY, "plan": "Only show what would be done; exit code 7 if there is something (default: do it)."},
    plans=True,
    exit_code=lambda rows: rows.exit_code,
)
def prepare(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    plan: bool = False,
    file: str = "",
    json: bool = False,
) -> fleet.Prepared:
    """Install or upgrade the agent on nodes, in parallel; safe to run again."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all=all or not (node or tag))
    return fleet.prepare_all(nodes, plan_only=plan or bool(c.config.run.dry), json=json)


@task(help=MANY)
def connect(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Bring the local endpoints of nodes up; a call does so by itself."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    return fleet.report(nodes, fleet.connect, (*STATE, "error"), json=json)


@task(help=MANY)
def disconnect(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Take the local endpoints of nodes down."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    return fleet.report(nodes, fleet.disconnect, ("node", "changed", "error"), json=json)


@task(
    help={
        "node": "Node name from nodes.yaml; repeatable (default: every endpoint there is, of any registry file).",
    },
    harmless=True,
)
def status(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Show the state of the local endpoints."""
    chosen = fleet.registry(file).choose(node or (), tag or (), all) if node or tag or all or file else None
    rows = fleet.status(chosen)
    output.show(rows, STATE, json=json)
    return rows


@task(name="list", harmless=True)
def list_(c: Context, file: str = "", json: bool = False) -> Rows:
    """Show the nodes of nodes.yaml, with endpoint, state and agent version."""
    rows = fleet.listing(fleet.registry(file))
    output.show(rows, ("name", "host", "endpoint", "state", "agent_version", "tags"), json=json)
    return rows


@task(help=MANY, harmless=True)
def info(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Show what nodes are and have."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    columns = ("node", "hostname", "os", "arch", "cpus", "memory_bytes", "disk", "agent_version", "counts", "error")
    return fleet.report(nodes, fleet.info, columns, json=json)


@task(help=MANY, harmless=True, exit_code=lambda rows: int(fleet.is_failing(rows)))
def health(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Show the health checks of nodes; exit code 1 if one is failing."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    columns = ("node", "check", "status", "detail", "error")
    return fleet.report(nodes, fleet.health, columns, json=json, lines=fleet.health_lines)


@task(help=MANY, harmless=True)
def version(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Show which agent answers on nodes: the cheap proof that all of the way works."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    columns = ("node", "agent", "api", "python", "build", "node_id", "error")
    return fleet.report(nodes, fleet.version, columns, json=json)


@task(help=MANY)
def start(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Start the agent of nodes, over SSH."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    return fleet.report(nodes, partial(service.change, verb="start"), ("node", "unit", "state", "error"), json=json)


@task(help=MANY)
def stop(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Stop the agent of nodes, over SSH; it stays stopped until node.start or the next boot."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    return fleet.report(nodes, partial(service.change, verb="stop"), ("node", "unit", "state", "error"), json=json)


@task(help=MANY)
def restart(
    c: Context,
    node: list[str] | None = None,
    tag: list[str] | None = None,
    all: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Restart the agent of nodes, over SSH."""
    nodes = fleet.registry(file).choose(node or (), tag or (), all)
    return fleet.report(nodes, partial(service.change, verb="restart"), ("node", "unit", "state", "error"), json=json)


@task(help={"lines": "How many lines from the end (default: 100)."}, harmless=True)
def logs(c: Context, node: str = "", lines: int = 100, file: str = "", json: bool = False) -> list[str]:
    """Show what a node's agent wrote to the journal, over SSH."""
    found = service.logs(fleet.registry(file).one(node), lines)
    output.show_lines(found, json=json)
    return found


@task(
    help={
        "name": "The node's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "host": "Host name, address or alias from ssh_config (needed, unless --lab is given).",
        "user": "Login name (default: what ssh_config says).",
        "port": "SSH port (default: what ssh_config says, else 22).",
        "identity": "Path of a private key (default: what ssh_config says).",
        "tag": "A tag of the node; repeatable (default: none).",
        "label": "A label as KEY=VALUE; repeatable (default: none).",
        "endpoint": "unix, or tcp:PORT for tools that need a port (default: unix).",
        "lab": "A throw-away node of this machine with this Debian release (default: a server of yours).",
    },
    choices={"lab": ("bookworm", "trixie", "bullseye")},
)
def add(
    c: Context,
    name: str,
    host: str | None = None,
    user: str | None = None,
    port: int | None = None,
    identity: str | None = None,
    tag: list[str] | None = None,
    label: list[str] | None = None,
    endpoint: str | None = None,
    lab: str | None = None,
    file: str = "",
    json: bool = False,
) -> dict[str, Any]:
    """Add a node to nodes.yaml; its comments and order stay."""
    settings = {"host": host, "user": user, "port": port, "identity": identity, "endpoint": endpoint, "lab": lab}
    row = fleet.add(file, name, settings, tags=tag or [], labels=label or [])
    output.show(row, json=json)
    return row


@task(help={"name": "Node name from nodes.yaml."})
def remove(c: Context, name: str, file: str = "", json: bool = False) -> dict[str, Any]:
    """Take a node out of nodes.yaml; nothing is changed on the node."""
    row = fleet.remove(file, name)
    output.show(row, json=json)
    return row


@task(help={"name": "Node name from nodes.yaml.", "yes": "Trust the key without asking (default: ask)."})
def trust(c: Context, name: str, yes: bool = False, file: str = "", json: bool = False) -> dict[str, Any]:
    """Show a node's host key and pin it in known_hosts beside nodes.yaml."""
    row = fleet.trust(fleet.registry(file).get(name), yes=yes)
    output.show(row, json=json)
    return row
