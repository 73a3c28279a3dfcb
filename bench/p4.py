"""P4: what the agent adds to the tools it uses."""

from __future__ import annotations

from bench.row import Row, ratio
from bench.site import Site
from codesmith.lab import LabNode

ROUNDS = 40


def rows(site: Site, node: LabNode) -> list[Row]:
    """Time workspace.create on the node beside useradd and install in one script."""
    found = site.on(node, "create_workspaces.py", ROUNDS)
    compared = (
        "on the node: `workspace.create` over the agent's socket by a running client on one connection, helper warm; "
        f"one `sh` script with the same useradd, install -d of home and 6 directories; fresh names, {ROUNDS} turns"
    )
    return [ratio("P4", "workspace.create beside the bare tools", found["agent"], found["tools"], 2.0, compared)]
