"""P21: workspace.create on a disk that others write to."""

from __future__ import annotations

from bench.row import Row, ratio
from bench.site import Site
from codesmith.lab import LabNode

ROUNDS = 20


def rows(site: Site, node: LabNode) -> list[Row]:
    """Time workspace.create on the node beside the tools and the same syncs, while 2 GB are copied."""
    found = site.on(node, "create_workspaces.py", ROUNDS, "busy")
    compared = (
        "as P4, while a copy of 2 GB is under way on the same disk; the tools are followed by as many syncs of "
        f"files and folders as agent and helper do; {ROUNDS} turns"
    )
    return [ratio("P21", "create on a busy disk", found["agent"], found["tools"], 2.0, compared)]
