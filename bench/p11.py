"""P11: calls on a node with ten thousand workspaces, beside one with ten."""

from __future__ import annotations

from bench.row import Row, ratio
from bench.site import Site
from codesmith.lab import LabNode

FEW, SOME, MANY = 10, 1_000, 10_000
TURNS, ROUNDS = 4, 8


def rows(site: Site) -> list[Row]:
    """Time calls on a node with few and one with many workspaces, in turns."""
    small, large = site.boot("few", "many")
    site.inv("node.prepare", "--node", "few", "--node", "many", proof="prepared").run()
    _seed(site, small, FEW)
    _seed(site, large, SOME)
    some = site.on(large, "measure_growth.py", ROUNDS)["list"]
    _seed(site, large, MANY)
    few, many = _in_turns(site, small, large)
    rows_of = "store and ledger filled by a program, accounts left out"
    sizes = f"{MANY:,} workspaces beside {FEW}"
    what = f"on the node, kept connection, helper warm; {sizes}; {rows_of}; {TURNS * ROUNDS} turns"
    return [
        ratio("P11", f"workspace.get, {MANY:,}", many["get"], few["get"], 1.2, what),
        ratio("P11", f"workspace.create, {MANY:,}", many["create"], few["create"], 1.2,
              f"for a user that is there, so that no tool runs; {what}"),
        ratio("P11", f"workspace.list, each of {MANY:,}", _each(many["list"], MANY), _each(some, SOME), 1.2,
              f"time of the whole list by its length; {MANY:,} workspaces beside {SOME:,} on the same node"),
    ]  # fmt: skip


def _seed(site: Site, node: LabNode, count: int) -> None:
    found = site.on(node, "seed_workspaces.py", count)["workspaces"]
    assert found == count, f"{found} workspaces instead of {count}"


def _in_turns(site: Site, *nodes: LabNode) -> list[dict[str, list[float]]]:
    found: list[dict[str, list[float]]] = [{"get": [], "create": [], "list": []} for _ in nodes]
    for _ in range(TURNS):
        for node, series in zip(nodes, found, strict=True):
            for what, took in site.on(node, "measure_growth.py", ROUNDS).items():
                series[what] += took
    return found


def _each(took: list[float], count: int) -> list[float]:
    return [seconds / count for seconds in took]
