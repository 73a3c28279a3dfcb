"""Nodes: nodes.yaml, local endpoints, and the agent on each node."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.errors import BadArgument
from codesmith.fleet import agent_calls, agent_service, endpoints, entries, installation, report, runs, selection
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.selection import Choice, ResumableChoice, RootChoice

Rows = list[dict[str, Any]]
EVERY = {"node": "Node name from nodes.yaml; repeatable (default: every node there)."}
UNIT = ("node", "unit", "state", "error")
STATE = ("name", "host", "endpoint", "state", "since", "agent_version", "reason")


@task(
    help={**EVERY, "plan": "Only show what would be done; exit code 7 unless that is nothing (default: do it)."},
    plans=True,
    exit_code=lambda rows: rows.exit_code,
    after_cancel="what is done there stays, and the same again goes on from there: inv node.prepare",
)
def prepare(c: Context, plan: bool = False, **choice: Unpack[ResumableChoice]) -> installation.Prepared:
    """Install or upgrade the agent on nodes, in parallel; safe to run again.

    Example: node.prepare --tag eu --plan
    Example: node.prepare --resume
    """
    return installation.prepare_all(choice, plan_only=plan or bool(c.config.run.dry))


@task(harmless=True, exit_code=lambda rows: rows.exit_code)
def verify(c: Context, **choice: Unpack[RootChoice]) -> installation.Verified:
    """Compare nodes with what prepare left there, and change nothing; exit code 1 if they differ.

    Example: node.verify --all
    """
    return installation.verify_all(selection.choose_for_root(choice))


@task(after_cancel="see which release answers: inv node.version")
def rollback(c: Context, **choice: Unpack[ResumableChoice]) -> Rows:
    """Roll nodes back to the agent release before the last upgrade; run it again to roll forward.

    Example: node.rollback --node web1
    """
    return installation.rollback_all(choice)


@task(
    help={
        "purge": "First delete all workspaces and users of the node with everything in them (default: refuse).",
        "plan": "Only show what would be removed; exit code 7 unless that is nothing (default: do it).",
        "yes": "Remove without asking (default: ask).",
    },
    plans=True,
    exit_code=lambda rows: rows.exit_code,
    after_cancel="the same again goes on from there: inv node.uninstall",
)
def uninstall(
    c: Context,
    purge: bool = False,
    plan: bool = False,
    yes: bool = False,
    **choice: Unpack[ResumableChoice],
) -> installation.Removed:
    """Remove from nodes exactly what prepare put there; packages stay.

    Example: node.uninstall --node web1 --purge
    """
    plan_only = plan or bool(c.config.run.dry)
    return installation.uninstall_all(choice, purge=purge, yes=yes, plan_only=plan_only)


@task()
def connect(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Open the local endpoints of nodes; calls also do this by themselves.

    Example: node.connect --all
    """
    return report.report(selection.choose(choice), endpoints.connect, (*STATE, "error"))


@task()
def disconnect(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Close the local endpoints of nodes.

    Example: node.disconnect --all
    """
    return report.report(selection.choose(choice), endpoints.disconnect, ("node", "changed", "error"))


@task(
    help={
        "node": "Node name from nodes.yaml; repeatable (default: every open endpoint, or every node of --file).",
    },
    harmless=True,
    watchable=True,
)
def status(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Show the state of the local endpoints, and the forwards in the background.

    Example: node.status --json
    """
    is_chosen = any(value for name, value in choice.items() if name not in ("jobs", "json"))
    chosen = selection.choose({**choice, "all": selection.is_for_all(choice)}).nodes if is_chosen else None
    rows = endpoints.status(chosen)
    is_json = choice.get("json", False)
    output.show(rows if is_json else endpoints.for_people(rows), (*STATE, "forwards"), json=is_json)
    return rows


@task(name="list", harmless=True, watchable=True)
def list_(c: Context, file: str = "", json: bool = False) -> Rows:
    """Show the nodes of nodes.yaml and of what it includes, with endpoint, state, agent version and file.

    Example: node.list --json
    """
    registry = selection.registry(file)
    rows = endpoints.listing(registry)
    shown = rows if json else endpoints.with_short_sources(rows, registry)
    output.show(shown, ("name", "host", "endpoint", "state", "agent_version", "tags", "source"), json=json)
    return rows


@task(harmless=True, watchable=True)
def info(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Show facts about nodes: system, processors, memory, disk, agent.

    Example: node.info --all --json
    """
    columns = ("node", "hostname", "os", "arch", "cpus", "memory_bytes", "disk", "agent_version", "counts", "error")
    return report.report(selection.choose(choice), agent_calls.info, columns)


@task(harmless=True, watchable=True, exit_code=lambda rows: int(agent_calls.is_failing(rows)))
def health(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Show the health checks of nodes; exit code 1 if one fails.

    Example: node.health --tag eu
    """
    columns = ("node", "check", "status", "detail", "error")
    return report.report(selection.choose(choice), agent_calls.health, columns, lines=agent_calls.health_lines)


@task(harmless=True, watchable=True)
def version(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Show which agent answers on nodes; the quickest test of a connection.

    Example: node.version --all
    """
    columns = ("node", "agent", "api", "python", "build", "node_id", "error")
    return report.report(selection.choose(choice), agent_calls.version, columns)


@task(after_cancel="see how it is: inv node.health")
def start(c: Context, **choice: Unpack[ResumableChoice]) -> Rows:
    """Start the agent of nodes over SSH, and wait until it answers.

    Example: node.start --node web1
    """
    with runs.begin("node.start", choice) as run:
        return report.report(run.chosen, run.follow(agent_service.start), UNIT)


@task(after_cancel="see how it is: inv node.health")
def stop(c: Context, **choice: Unpack[ResumableChoice]) -> Rows:
    """Stop the agent of nodes over SSH; it stays stopped until node.start or the next boot.

    Example: node.stop --node web1
    """
    with runs.begin("node.stop", choice) as run:
        return report.report(run.chosen, run.follow(agent_service.stop), UNIT)


@task(after_cancel="see how it is: inv node.health")
def restart(c: Context, **choice: Unpack[ResumableChoice]) -> Rows:
    """Restart the agent of nodes over SSH, and wait until it answers.

    Example: node.restart --node web1
    """
    with runs.begin("node.restart", choice) as run:
        return report.report(run.chosen, run.follow(partial(agent_service.start, verb="restart")), UNIT)


def _is_failing(rows: Rows) -> int:
    from codesmith.doctor import finding  # of this task alone, and heavy

    return int(finding.is_failing(rows))


@task(help=EVERY, harmless=True, exit_code=_is_failing)
def doctor(c: Context, **choice: Unpack[Choice]) -> Rows:
    """Check this machine, the connections to nodes, and the nodes; exit code 1 if a check fails.

    Example: node.doctor --node web1
    """
    from codesmith.doctor.doctor import examine

    rows = examine(choice)
    output.show(rows, ("node", "code", "status", "detail", "next"), json=choice.get("json", False))
    return rows


@task(
    help={
        "lines": "How many of the last lines to show (default: 100).",
        "follow": "Also show each new line until Ctrl-C; exit code 0 then (default: show and end).",
    },
    harmless=True,
)
def logs(
    c: Context,
    lines: int = 100,
    follow: bool = False,
    sudo_password_file: str | None = None,
    **where: Unpack[OneNode],
) -> list[str]:
    """Show the journal of a node's agent and its root helper, over SSH.

    Example: node.logs --node web1 --follow
    """
    selection.take_sudo_password(sudo_password_file)
    node, json = selection.one(where), where.get("json", False)
    if follow:
        agent_service.follow(node, lines, partial(output.show_line, json=json))
        return []
    journal = agent_service.logs(node, lines)
    output.show_lines(journal, json=json)
    return journal


@task(
    help={
        "name": "The node's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "host": "Host name, address or alias from ssh_config (needed without --lab).",
        "user": "Login name (default: that of ssh_config).",
        "port": "SSH port (default: that of ssh_config, else 22).",
        "identity": "Path of a private key (default: those of ssh_config).",
        "tag": "A tag of the node; repeatable (default: none).",
        "label": "A label as KEY=VALUE; repeatable (default: none).",
        "endpoint": "unix, or tcp:PORT for tools that need a TCP port (default: unix).",
        "ssh": "What connects over SSH: openssh or fabric (default: fabric, or openssh where fabric cannot).",
        "lab": "Make it a throw-away lab node of this machine, with this Debian release (default: a real server).",
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
    """Add a node to nodes.yaml; comments and order stay.

    Example: node.add web1 --host web1.example.org --user ops --tag eu
    """
    access = {"host": host, "user": user, "port": port, "identity": identity, "ssh": ssh}
    settings = {**access, "endpoint": endpoint, "lab": lab}
    row = entries.add(file, name, settings, tags=tag or [], labels=label or [])
    output.show(row, json=json)
    return row


@task(
    help={
        "name": "Node name from nodes.yaml.",
        "yes": "Remove without asking (default: say what would be lost, and ask on the terminal).",
    }
)
def remove(c: Context, name: str, yes: bool = False, file: str = "", json: bool = False) -> dict[str, Any]:
    """Remove a node from nodes.yaml, after saying what is lost; nothing changes on the node.

    Example: node.remove web1
    """
    row = entries.remove(file, name, yes=yes)
    output.show(row, json=json)
    return row


@task(
    optional=("name",),
    help={
        "name": "Node name from nodes.yaml; several by --node, --tag or --all.",
        "node": "Node name from nodes.yaml; repeatable (default: NAME).",
        "yes": "Trust the keys without asking (default: show them all, and ask once).",
    },
)
def trust(c: Context, name: str | None = None, yes: bool = False, **choice: Unpack[Choice]) -> dict[str, Any] | Rows:
    """Show the host keys of nodes and pin them in known_hosts beside nodes.yaml.

    Example: node.trust web1
    Example: node.trust --all
    """
    if not name:
        return entries.trust_all(selection.choose_named(choice, "node.trust"), yes=yes)
    if any(choice.get(option) for option in ("node", "tag", "all")):
        raise BadArgument("node.trust takes NAME, or --node, --tag or --all", hint="leave one of them out")
    row = entries.trust(selection.registry(choice.get("file") or "").get(name), yes=yes)
    output.show(row, json=choice.get("json", False))
    return row
