"""P23: one change after a pause, which is how a person works."""

from __future__ import annotations

import time

from bench import p3
from bench.row import Row
from bench.site import Site
from codesmith.bootstrap.layout import HELPER_SERVICE
from codesmith.lab import LabNode

ROUNDS, ANSIBLE_ROUNDS = 5, 2
PAUSE_S = 12.0


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure after a pause, and after one that is so long that the helper has ended."""

    def pause() -> None:
        time.sleep(PAUSE_S)  # this is what is measured

    def end_helper() -> None:
        node.run(["systemctl", "stop", HELPER_SERVICE])

    rounds = (ROUNDS, ANSIBLE_ROUNDS)
    soon = f"{p3.WHAT}; nobody has called for {PAUSE_S:.0f} s"
    late = f"{p3.WHAT}; no helper runs, as a minute after the last change"
    told = (("P23", "create after a pause", soon), ("P23", "create, no helper", late))
    return [
        *p3.compare(site, "web1", told[0], p3.NEAR, prefix="soon", before=pause, rounds=rounds),
        *p3.compare(site, "web1", told[1], p3.NEAR, prefix="late", before=end_helper, rounds=rounds),
    ]
