"""A list of one node, or of several together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from codesmith.cli import output
from codesmith.cli.progress import Progress
from codesmith.errors import CodeSmithError
from codesmith.fleet import one_node, parallel, report, selection
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

T = TypeVar("T")
# The endpoints that are not up open as few at a time as any other work connects.
CONNECTS = threading.BoundedSemaphore(parallel.AT_ONCE)


def show(
    choice: Choice,
    ask: Callable[[Client], list[T]],
    columns: Sequence[str],
    *,
    joined: Callable[[list[list[Row]]], list[Row]] | None = None,
) -> list[T] | list[Row]:
    """Show what `ask` finds, and return it: as it is for one node, else rows that begin with their node.

    `joined` makes one list of those of several nodes (default: one behind the other). A node that fails has a row with
    its error, and stops no other.
    """
    if not is_of_several(choice):
        return one_node.call(one_of(choice), ask, columns)
    chosen = selection.choose(choice)
    if not choice.get("jobs"):
        chosen = replace(chosen, jobs=parallel.CALLS_AT_ONCE)
    outcomes = report.watched(chosen, lambda node: _rows(node, ask), Progress(len(chosen.nodes), "calling"))
    parallel.raise_only(outcomes)
    found = parallel.results(outcomes, lambda node, error: [_failed(node, error)])
    rows = joined(found) if joined else [row for of_node in found for row in of_node]
    output.show(rows, ("node", *columns, "error"), json=chosen.json)
    parallel.raise_failures(outcomes)
    return rows


def is_of_several(choice: Choice) -> bool:
    """Tell whether the options may mean more than one node."""
    return bool(choice.get("tag") or choice.get("all")) or len(choice.get("node") or ()) > 1


def one_of(choice: Choice) -> one_node.OneNode:
    """Return the options of a task for one node: of the only node that is named, or of the default one."""
    node = next(iter(choice.get("node") or ()), None)
    return {"node": node, "file": choice.get("file"), "json": choice.get("json", False)}


def _rows(node: Node, ask: Callable[[Client], list[Any]]) -> list[Row]:
    from codesmith.sdk.client import Client
    from codesmith.tunnel.local_endpoint import endpoint_path

    is_up = endpoint_path(node).exists()
    with contextlib.nullcontext() if is_up else CONNECTS, Client(node) as client:
        return [{"node": node.name, **one.to_dict()} for one in ask(client)]


def _failed(node: Node, error: CodeSmithError) -> Row:
    return {"node": node.name, "error": error.problem, "kind": error.kind}
