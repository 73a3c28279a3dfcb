"""The main job end to end, on a throw-away node of this machine."""

from __future__ import annotations

from invoke.context import Context

from codesmith.task import task


@task(
    help={"release": "The node's Debian release: bookworm, trixie or bullseye (default: bookworm)."},
    choices={"release": ("bookworm", "trixie", "bullseye")},
)
def demo(c: Context, release: str = "bookworm") -> None:
    """Boot a node, prepare it, make a workspace, run a command in it, show all and throw it away."""
    from codesmith import showcase

    showcase.run(release)
