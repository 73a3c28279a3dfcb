"""Nodes: the registry, the way to them, and the life of their agents."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.doctor import finding
from codesmith.fleet import agent_calls, agent_service, endpoints, entries, installation, report, selection
from codesmith.fleet.selection import Choice, RootChoice

Rows = list[dict[str, Any]]
EVERY = {"node": "Node name from nodes.yaml; repeatable (default: every node there)."}
UNIT = ("node", "unit", "state", "error")
STATE = ("name", "host", "endpoint", "state", "since", "agent_version", "reason")


@task(
    help={**EVERY, "plan": "Only show what would be done; exit code 7 if there is something (default: do it)."},
    plans=True,
    exit_code=lambda rows: rows.exit_code,
)
def prepare(c: Context, plan: bool = False, json: bool = False, **choice: Unpack[RootChoice]) -> installation.Prepared:
    """Install or upgrade the agent on nodes, in parallel; safe to run again."""
    chosen = selection.choose_for_root({**choice, "all": selection.is_for_all(choice)})
    return installation.prepare_all(chosen, plan_only=plan or bool(c.config.run.dry), json=json)


@task(harmless=True, exit_code=lambda rows: rows.exit_code)
def verify(c: Context, json: bool = False, **choice: Unpack[RootChoice]) -> installation.Verified:
    """Show where nodes are not as prepare left them; exit code 1 if there is something. Nothing is changed."""
    return installation.verify_all(selection.choose_for_root(choice), json=json)


@task()
def rollback(c: Context, json: bool = False, **choice: Unpack[RootChoice]) -> Rows:
    """Go back to the release that answered before the last upgrade; once more, and it is forth again."""
    return installation.rollback_all(selection.choose_for_root(choice), json=json)


@task(
    help={
        "purge": "Delete all workspaces and users of the node first, with all they hold (default: refuse).",
        "plan": "Only show what would be removed; exit code 7 if there is something (default: do it).",
        "yes": "Remove without asking (default: ask).",
    },
    plans=True,
    exit_code=lambda rows: rows.exit_code,
)
def uninstall(
    c: Context,
    purge: bool = False,
    plan: bool = False,
    yes: bool = False,
    json: bool = False,
    **choice: Unpack[RootChoice],
) -> installation.Removed:
    """Remove from nodes exactly what prepare made there; packages stay."""
    plan_only = plan or bool(c.config.run.dry)
    return installation.uninstall_all(
        selection.choose_for_root(choice), purge=purge, yes=yes, plan_only=plan_only, json=json
    )


@task()
def connect(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Bring the local endpoints of nodes up; a call does so by itself."""
    return report.report(selection.choose(choice), endpoints.connect, (*STATE, "error"), json=json)


@task()
def disconnect(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Take the local endpoints of nodes down."""
    return report.report(selection.choose(choice), endpoints.disconnect, ("node", "changed", "error"), json=json)


@task(
    help={
        "node": "Node name from nodes.yaml; repeatable (default: every endpoint there is, or every node of --file).",
    },
    harmless=True,
)
def status(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Show the state of the local endpoints."""
    is_chosen = any(value for name, value in choice.items() if name != "jobs")
    chosen = selection.choose({**choice, "all": selection.is_for_all(choice)}).nodes if is_chosen else None
    rows = endpoints.status(chosen)
    output.show(rows, STATE, json=json)
    return rows


@task(name="list", harmless=True)
def list_(c: Context, file: str = "", json: bool = False) -> Rows:
    """Show the nodes of nodes.yaml, with endpoint, state and agent version."""
    rows = endpoints.listing(selection.registry(file))
    output.show(rows, ("name", "host", "endpoint", "state", "agent_version", "tags"), json=json)
    return rows


@task(harmless=True)
def info(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Show what nodes are and have."""
    columns = ("node", "hostname", "os", "arch", "cpus", "memory_bytes", "disk", "agent_version", "counts", "error")
    return report.report(selection.choose(choice), agent_calls.info, columns, json=json)


@task(harmless=True, exit_code=lambda rows: int(agent_calls.is_failing(rows)))
def health(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Show the health checks of nodes; exit code 1 if one is failing."""
    columns = ("node", "check", "status", "detail", "error")
    return report.report(
        selection.choose(choice), agent_calls.health, columns, json=json, lines=agent_calls.health_lines
    )


@task(harmless=True)
def version(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Show which agent answers on nodes: the cheap proof that all of the way works."""
    columns = ("node", "agent", "api", "python", "build", "node_id", "error")
    return report.report(selection.choose(choice), agent_calls.version, columns, json=json)


@task()
def start(c: Context, json: bool = False, **choice: Unpack[RootChoice]) -> Rows:
    """Start the agent of nodes, over SSH; it has to answer."""
    return report.report(selection.choose_for_root(choice), agent_service.start, UNIT, json=json)


@task()
def stop(c: Context, json: bool = False, **choice: Unpack[RootChoice]) -> Rows:
    """Stop the agent of nodes, over SSH; it stays stopped until node.start or the next boot."""
    return report.report(selection.choose_for_root(choice), agent_service.stop, UNIT, json=json)


@task()
def restart(c: Context, json: bool = False, **choice: Unpack[RootChoice]) -> Rows:
    """Restart the agent of nodes, over SSH; it has to answer."""
    return report.report(
        selection.choose_for_root(choice), partial(agent_service.start, verb="restart"), UNIT, json=json
    )


@task(help=EVERY, harmless=True, exit_code=lambda rows: int(finding.is_failing(rows)))
def doctor(c: Context, json: bool = False, **choice: Unpack[Choice]) -> Rows:
    """Check this machine, the way to nodes, and the nodes; exit code 1 if something fails."""
    from codesmith.doctor.doctor import examine

    rows = examine(choice)
    output.show(rows, ("node", "code", "status", "detail", "next"), json=json)
    return rows


@task(
    help={
        "lines": "How many lines from the end (default: 100).",
        "follow": "Go on with each new line until Ctrl-C, which ends with 0 (default: show and end).",
    },
    harmless=True,
)
def logs(
    c: Context,
    node: str = "",
    lines: int = 100,
    follow: bool = False,
    sudo_password_file: str | None = None,
    file: str = "",
    json: bool = False,
) -> list[str]:
    """Show what a node's agent and its root half wrote to the journal, over SSH."""
    selection.take_sudo_password(sudo_password_file)
    chosen = selection.registry(file).one(node)
    if follow:
        agent_service.follow(chosen, lines, partial(output.show_line, json=json))
        return []
    found = agent_service.logs(chosen, lines)
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
        "ssh": "What holds the SSH connection: openssh or fabric (default: fabric, and openssh where that fails).",
        "lab": "A throw-away node of this machine with this Debian release (default: a server of yours).",
    },
    choices={"lab": ("bookworm", "trixie", "bullseye"), "ssh": ("openssh", "fabric")},
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
    ssh: str | None = None,
    lab: str | None = None,
    file: str = "",
    json: bool = False,
) -> dict[str, Any]:
    """Add a node to nodes.yaml; its comments and order stay."""
    way = {"host": host, "user": user, "port": port, "identity": identity, "ssh": ssh}
    settings = {**way, "endpoint": endpoint, "lab": lab}
    row = entries.add(file, name, settings, tags=tag or [], labels=label or [])
    output.show(row, json=json)
    return row


@task(help={"name": "Node name from nodes.yaml."})
def remove(c: Context, name: str, file: str = "", json: bool = False) -> dict[str, Any]:
    """Take a node out of nodes.yaml; nothing is changed on the node."""
    row = entries.remove(file, name)
    output.show(row, json=json)
    return row


@task(help={"name": "Node name from nodes.yaml.", "yes": "Trust the key without asking (default: ask)."})
def trust(c: Context, name: str, yes: bool = False, file: str = "", json: bool = False) -> dict[str, Any]:
    """Show a node's host key and pin it in known_hosts beside nodes.yaml."""
    row = entries.trust(selection.registry(file).get(name), yes=yes)
    output.show(row, json=json)
    return row
