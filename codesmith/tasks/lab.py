"""The lab: throw-away real nodes on this machine, for trying things out, tests and the demo."""
# ruff: noqa: A002, ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from typing import Any

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.fleet import report, selection

Rows = list[dict[str, Any]]
UP = ("name", "release", "state", "host", "ssh", "error")
STATUS = ("name", "release", "state", "host", "memory_kib", "owner_pid", "ssh")
EVERY = {"node": "Lab node; repeatable (default: every node of nodes.yaml that has `lab:`)."}
RELEASE = "bookworm, trixie or bullseye; with it a node need not be in nodes.yaml (default: what nodes.yaml says)."
ALL = "Every node of this machine that `lab.up` booted, other people's too (default: those of nodes.yaml)."


@task(help={**EVERY, "release": RELEASE}, choices={"release": ("bookworm", "trixie", "bullseye")})
def up(c: Context, node: list[str] | None = None, release: str = "", file: str = "", json: bool = False) -> Rows:
    """Boot lab nodes; they live until `lab.down`. Nothing happens to those that are up."""
    from codesmith.lab import commands

    nodes = commands.choose(selection.registry(file), node or (), release)
    return report.report(selection.Chosen(nodes), commands.booter(nodes), UP, json=json)


@task(help={**EVERY, "all": ALL, "yes": "Do not ask before --all (default: ask)."})
def down(
    c: Context,
    node: list[str] | None = None,
    all: bool = False,
    yes: bool = False,
    file: str = "",
    json: bool = False,
) -> Rows:
    """Throw lab nodes away with all they hold."""
    from codesmith.lab import commands

    registry = selection.registry(file)
    nodes = commands.choose_all(registry, yes=yes) if all else commands.choose_for_removal(registry, node or ())
    return report.report(selection.Chosen(nodes), commands.remover(registry), ("name", "result", "error"), json=json)


@task(harmless=True)
def status(c: Context, json: bool = False) -> Rows:
    """Show every lab node of this machine: state, address, memory, and whose it is."""
    from codesmith.lab import commands

    rows = commands.status()
    output.show(rows, STATUS, json=json)
    return rows
