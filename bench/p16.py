"""P16: downloads through the proxy of a workspace, beside direct ones; what they cost the node's processor."""

from __future__ import annotations

from bench.row import Row, at_least, limit
from bench.site import Site
from codesmith.lab import LabNode

ROUNDS = 5
LEAST, CORES_PERCENT = 0.8, 30
WHAT = "on the node, from a server on loopback; the same without the proxy"


def rows(site: Site, node: LabNode) -> list[Row]:
    """Download on the node, with one connection and with 32, in turns with the same without the proxy."""
    found = site.on(node, "through_proxy.py", ROUNDS)
    link = "the server sends 125 MB/s in all, as a link of 1 Gbit/s does"
    memory = "as fast as memory is: no network is in between, and all share the node's processors"
    return [
        at_least("P16", "download, 1 connection, 1 Gbit/s", found["link_one"], found["link_one_direct"], LEAST, "MB/s",
                 f"{WHAT}; {link}; {ROUNDS} turns"),
        at_least("P16", "download, 32 connections, 1 Gbit/s", found["link_many"], found["link_many_direct"], LEAST,
                 "MB/s", f"{WHAT}; {link}; {ROUNDS} turns"),
        at_least("P16", "download, 1 connection, no link", found["one"], found["one_direct"], LEAST, "MB/s",
                 f"{WHAT}; {memory}; {ROUNDS} turns"),
        at_least("P16", "download, 32 connections, no link", found["many"], found["many_direct"], LEAST, "MB/s",
                 f"{WHAT}; {memory}; {ROUNDS} turns"),
        limit("P16", "proxy at 100 MB/s", 100 * found["even_cores"], CORES_PERCENT, "%",
              "user and system time of the proxy, in % of a core, while one connection downloads 100 MB/s evenly for "
              f"4 s; at full speed {100 * found['full_cores']:.1f} % for each 100 MB/s"),
    ]  # fmt: skip
