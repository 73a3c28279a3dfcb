"""Work at the chosen nodes at once, and show what came of each: a row per node."""

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
    """Do `work` on all chosen nodes at once, show the rows, and raise in the end if a node failed or Ctrl-C came.

    The first column names the node, also in the row of one that failed.

    `lines` turns rows into those that people read; JSON has the rows as they are.
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
    """Do `work` on all chosen nodes, with a view of what is under way where there is a terminal."""

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
    """Report work that tells its steps: each is a line on stderr, or what a terminal shows as under way."""
    progress = Progress(len(chosen.nodes), "connect")
    is_crowded = progress.is_shown and len(chosen.nodes) > 1

    def tell(done: Done) -> None:
        """Say what was done; in a view of several nodes only what failed, and in any what comes next."""
        progress.step(done.node, done.then or "finish")
        if not is_crowded or not done.ok:
            _say_step(done)

    return report(chosen, lambda node: work(node, tell), columns, lines=lines, progress=progress)


def _say_step(done: Done) -> None:
    """Say on stderr what was done on a node, and how long it took."""
    trouble = "" if done.ok else f"  FAILED: {done.message}"
    output.say(f"{done.node}  {done.seconds:6.2f} s  {done.text}{trouble}")


def plan_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one line per step; a node without steps has nothing to do."""
    none = [{"text": "nothing to do"}]
    return [
        row if "error" in row else {**row, "step": step["text"], "now": step.get("before"), "then": step.get("after")}
        for row in rows
        for step in row.get("steps") or none
    ]
