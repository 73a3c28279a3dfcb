"""P12: sixteen clients at once on one agent."""

from __future__ import annotations

from bench.row import Row, at_least, limit
from bench.site import Site
from codesmith.lab import LabNode

ROUNDS = 5


def rows(site: Site, node: LabNode) -> list[Row]:
    """Count calls per second beside the bare library on the same node."""
    found = site.on(node, "many_clients.py", ROUNDS)
    compared = (
        "on the node: 16 client processes, node.version, 200 calls each on a kept connection; jsonrpclib's pooled "
        f"server with a method that returns the same; {ROUNDS} turns"
    )
    return [
        at_least("P12", "16 clients at once", found["agent"], found["bare"], 0.7, "calls/s", compared),
        limit("P12", "16 clients at once, failed", found["failed"], 0, "clients", compared),
    ]
