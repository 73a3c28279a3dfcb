"""Work on the chosen nodes in parallel and show one row per node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from codesmith.cli import output
from codesmith.cli.progress import Progress
from codesmith.fleet import parallel
from codesmith.fleet.selection import Chosen
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.bootstrap.prepare import Progress as Done


Row = dict[str, Any]
T = TypeVar("T")

# The columns of a plan.
PLAN = ("node", "step", "now", "then", "error")


def report(
    chosen: Chosen,
    work: Callable[[Node], Row],
    columns: Sequence[str],
    *,
    lines: Callable[[list[Row]], list[Row]] = list,
    progress: Progress | None = None,
) -> list[Row]:
    """Do `work` on all chosen nodes in parallel and show the rows; then raise if a node failed or Ctrl-C came.

    The first column is the node's name; a node that failed has a row too.
    `lines` turns the rows into those that people see; JSON has the rows unchanged.
    """

    def show(outcomes: Sequence[parallel.Outcome[Row]]) -> list[Row]:
        rows = parallel.results(
            outcomes, lambda node, error: {columns[0]: node.name, "error": error.problem, "kind": error.kind}
        )
        output.show(rows if chosen.json else lines(rows), columns, json=chosen.json)
        return rows

    try:
        outcomes = watched(chosen, work, progress or Progress(len(chosen.nodes), "calling"))
    except parallel.Interrupted as interrupted:
        if interrupted.outcomes:
            show(interrupted.outcomes)
        raise
    parallel.raise_only(outcomes)
    rows = show(outcomes)
    parallel.raise_failures(outcomes)
    return rows


def watched(chosen: Chosen, work: Callable[[Node], T], progress: Progress) -> list[parallel.Outcome[T]]:
    """Do `work` on all chosen nodes; a terminal shows the progress."""

    def follow(node: Node) -> T:
        progress.begin(node.name)
        ok = False
        try:
            result = work(node)
            ok = True
            return result
        finally:
            progress.end(node.name, ok=ok)

    with progress:
        return parallel.each(chosen.nodes, follow, chosen.jobs, progress.draw if progress.is_shown else None)


def report_steps(
    chosen: Chosen,
    work: Callable[[Node, Callable[[Done], None]], Row],
    columns: Sequence[str],
    *,
    lines: Callable[[list[Row]], list[Row]] = list,
) -> list[Row]:
    """Like `report`, for work that reports its steps: each is a line on stderr; a terminal shows the current ones."""
    progress = Progress(len(chosen.nodes), "connect")
    is_crowded = progress.is_shown and len(chosen.nodes) > 1

    def tell(done: Done) -> None:
        """Print a finished step and show the next one; with a view of several nodes, print only failed steps."""
        progress.step(done.node, done.then or "finish")
        if not is_crowded or not done.ok:
            _say_step(done)

    return report(chosen, lambda node: work(node, tell), columns, lines=lines, progress=progress)


def _say_step(done: Done) -> None:
    """Print a finished step and how long it took, on stderr."""
    failure = "" if done.ok else f"  FAILED: {done.message}"
    output.say(f"{done.node}  {done.seconds:6.2f} s  {done.text}{failure}")


def plan_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one row per step, or a single row "nothing to do" for a node without steps."""
    none = [{"text": "nothing to do"}]
    return [
        row if "error" in row else {**row, "step": step["text"], "now": step.get("before"), "then": step.get("after")}
        for row in rows
        for step in row.get("steps") or none
    ]
