"""The tasks of `inv` and `codesmith`: one module per namespace, listed here and nowhere else."""

from __future__ import annotations

from codesmith.cli.namespace import Namespace, Root

NAMESPACES = (
    "audit", "file", "job", "lab", "mcp", "node", "repo", "sandbox", "ssh", "template", "token", "ui", "user",
    "workspace",
)  # fmt: skip


def root() -> Root:
    """Return the root collection; the module of a namespace is imported when one of its tasks is asked for."""
    from codesmith.tasks import completion, demo, top

    spaces = {name: Namespace(f"{__name__}.{name}") for name in NAMESPACES}
    return Root(completion.completion, demo.demo, top.top, **spaces)
