"""P7: prepare of twenty nodes with nothing to do, beside ansible and pyinfra."""

from __future__ import annotations

from bench.clock import in_turns
from bench.p5 import SAME, Looking
from bench.row import Row, ratio
from bench.site import Site

NODES, ROUNDS, ANSIBLE_ROUNDS = 20, 2, 1


def rows(site: Site) -> list[Row]:
    """Time all three on the same twenty nodes, at 0 ms."""
    names = site.fleet()[:NODES]
    everybody = Looking(site, names)
    prepare = everybody.prepare()
    ours, pyinfra = in_turns(ROUNDS, prepare.run, everybody.pyinfra().run)
    again, ansible = in_turns(ANSIBLE_ROUNDS, prepare.run, everybody.ansible)
    what = f"{NODES} nodes, nothing to do, whole processes; {SAME}"
    return [
        ratio("P7", f"prepare of {NODES}, beside pyinfra", ours, pyinfra, 0.7, f"{what}; pyinfra's own parallelism"),
        ratio(
            "P7", f"prepare of {NODES}, beside ansible", again, ansible, 0.35, f"{what}; ansible -f {NODES}, pipelining"
        ),
    ]
