"""What grows with a node's workspaces, and with the endpoints of one forwarder: points for a plot, without a target."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.clock import in_turns
from bench.p8 import memory_mb
from bench.p19 import names_of_four_nodes
from bench.site import Site, each
from codesmith.lab import LabNode

WORKSPACES = (10, 100, 1_000, 10_000)
ENDPOINTS = (1, 10, 50, 100, 200)
ROUNDS = 5
MS = 1_000


@dataclass(frozen=True)
class Growth:
    """Lines over a common count: `lines` has for each label a value at each of `counts`; both axes are logarithmic."""

    name: str
    title: str
    counted: str
    counts: tuple[int, ...]
    lines: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dictionary, for JSON."""
        return asdict(self)


def growth(site: Site, node: LabNode) -> list[Growth]:
    """Measure both."""
    return [
        Growth("workspaces", "Calls to a node, by the number of its workspaces", "workspaces", WORKSPACES,
               _lines(_with_workspaces(site))),
        Growth("endpoints", "One forwarder, by the number of its endpoints", "endpoints", ENDPOINTS,
               _lines(_with_endpoints(site, node))),
    ]  # fmt: skip


def _with_workspaces(site: Site) -> Iterator[dict[str, float]]:
    """Fill a node step by step; time calls on it."""
    (node,) = site.boot("growing")
    site.inv("node.prepare", "--node", "growing", proof="prepared").run()
    for count in WORKSPACES:
        site.on(node, "seed_workspaces.py", count)
        took = site.on(node, "measure_growth.py", 2 * ROUNDS)
        yield {
            "workspace.list, whole, ms": MS * statistics.median(took["list"]),
            "workspace.create, ms": MS * statistics.median(took["create"]),
            "workspace.get, ms": MS * statistics.median(took["get"]),
        }


def _with_endpoints(site: Site, node: LabNode) -> Iterator[dict[str, float]]:
    """Connect more and more; look at the forwarder, and list all."""
    names = names_of_four_nodes(site, node, max(ENDPOINTS))
    site.leave()  # a forwarder of its own
    for count in ENDPOINTS:
        these = each(names[:count])
        site.inv("node.connect", *these).run()
        site.inv("node.version", *these).run()
        memory, _ = memory_mb(site.forwarder_pid)
        yield {
            "inv workspace.list of all, ms": _median_ms(site.inv("workspace.list", *these).run),
            "inv node.status, ms": _median_ms(site.inv("node.status").run),
            "forwarder, MB": memory,
        }
    site.inv("node.disconnect", *each(names)).run()


def _median_ms(run: Callable[[], float]) -> float:
    (took,) = in_turns(ROUNDS, run)
    return MS * statistics.median(took)


def _lines(points: Iterator[dict[str, float]]) -> dict[str, list[float]]:
    """Turn a dictionary for each count into a list for each label."""
    found: dict[str, list[float]] = {}
    for point in points:
        for label, value in point.items():
            found.setdefault(label, []).append(round(value, 3))
    return found
