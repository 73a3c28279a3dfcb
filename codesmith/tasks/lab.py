"""The lab: throw-away real nodes on this machine, for trials, tests and the demo."""
# ruff: noqa: A002, ARG001  Invoke passes a context to every task; `all` is the option's name

from __future__ import annotations

from typing import Any

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.fleet import report, selection
from codesmith.nodes.reader import RELEASES

Rows = list[dict[str, Any]]
UP = ("name", "release", "state", "host", "ssh", "error")
STATUS = ("name", "release", "state", "host", "memory_kib", "owner_pid", "ssh")
EVERY = {"node": "Lab node; repeatable (default: every node of nodes.yaml that has `lab:`)."}
NAMES = f"{', '.join(RELEASES)} (-vm: a virtual machine)"
RELEASE = f"{NAMES}; the nodes need not be in nodes.yaml then (default: that of nodes.yaml)."
BRIDGE = "Let the nodes share this bridge, with names NAME.lab (default: `bridge:` of nodes.yaml, else none)."
ALL = "Every lab node of this machine, other people's too (default: those of nodes.yaml)."


@task(help={**EVERY, "release": RELEASE, "bridge": BRIDGE}, choices={"release": RELEASES})
def up(
    c: Context,
    node: list[str] | None = None,
    release: str = "",
    bridge: str = "",
    file: str = "",
    json: bool = False,
) -> Rows:
    """Boot lab nodes, which run until `lab.down`; nodes that are up stay as they are.

    Example: lab.up --node try1 --release trixie
    """
    from codesmith.lab import commands

    nodes = commands.choose(selection.registry(file), node or (), release, bridge)
    return report.report(selection.Chosen(nodes, json=json), commands.booter(nodes), UP)


@task(help={**EVERY, "all": ALL, "yes": "With --all, delete without asking (default: ask)."})
def down(
    c: Context,
    node: list[str] | None = None,
    all: bool = False,
    yes: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Delete lab nodes and everything on them.

    Example: lab.down --all
    """
    from codesmith.lab import commands

    registry = selection.registry(file)
    nodes = commands.choose_all(registry, yes=yes) if all else commands.choose_for_removal(registry, node or ())
    return report.report(selection.Chosen(nodes, json=json), commands.remover(registry), ("name", "result", "error"))


@task(harmless=True, watchable=True)
def status(c: Context, json: bool = False) -> Rows:
    """Show every lab node of this machine: state, address, memory and owner.

    Example: lab.status --json
    """
    from codesmith.lab import commands

    rows = commands.status()
    output.show(rows, STATUS, json=json)
    return rows
