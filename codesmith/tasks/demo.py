"""The main job end to end, on a throw-away node of this machine."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from invoke.context import Context

from codesmith.cli.task import task


@task(
    help={"release": "The node's Debian release: bookworm, trixie or bullseye (default: bookworm)."},
    choices={"release": ("bookworm", "trixie", "bullseye")},
)
def demo(c: Context, release: str = "bookworm") -> list[tuple[str, float]]:
    """Boot a node, prepare it, create a workspace, run a command there, and delete the node.

    Example: demo --release trixie
    """
    from codesmith.lab import demo

    return demo.run(release)
