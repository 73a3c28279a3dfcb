"""What all workspaces use, by memory, cpu or disk."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from invoke.context import Context

from codesmith.cli.task import Tell, task
from codesmith.fleet.top_choice import SORTS, TopChoice

if TYPE_CHECKING:
    from codesmith.fleet.report import Row


def _live(options: Any, tell: Tell) -> list[Row]:
    from codesmith.fleet import top

    return top.live(options, tell)


@task(
    help={
        "sort": "By memory, cpu, disk (the largest first) or name (default: memory).",
        "user": "Only workspaces of this user (default: of all users).",
        "label": "Only workspaces with this label, as KEY=VALUE; repeatable (default: any).",
        "once": "Look twice, a second apart, and print one table (default, on a terminal: a screen every 2 s until "
        "Ctrl-C or q).",
    },
    choices={"sort": tuple(SORTS)},
    harmless=True,
    live=_live,
)
def top(c: Context, **options: Unpack[TopChoice]) -> list[Row]:
    """Show all workspaces of nodes by what they use, live on a terminal; cpu is a percentage of one core.

    On a terminal m, c, d and n sort by memory, cpu, disk and name. In a pipe, with --once, --json or -o it is one list.

    Example: top --all
    Example: top --tag eu --sort cpu --once
    """
    from codesmith.fleet import top

    return top.once(options)
