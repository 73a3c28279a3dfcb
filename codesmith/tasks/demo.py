"""The main job end to end, on a throw-away node of this machine."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from invoke.context import Context

from codesmith.cli.task import task


@task(
    help={"release": "The node's Debian release: bookworm, trixie or bullseye (default: bookworm)."},
    choices={"release": ("bookworm", "trixie", "bullseye")},
)
def demo(c: Context, release: str = "bookworm") -> list[tuple[str, float]]:
    """Boot a node, prepare it, make a workspace, run a command in it, show all and throw it away."""
    from codesmith.lab import demo

    return demo.run(release)
