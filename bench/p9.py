"""P9: what agent and forwarder cost while nobody calls."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.row import Row, limit
from bench.site import Site
from codesmith.bootstrap.layout import AGENT_SERVICE
from codesmith.lab import LabNode

IDLE_S = 32.0
MOST_PERCENT = 0.2


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure the processor time of both over 32 s, with one endpoint up and nobody calling."""
    site.inv("node.connect", "--node", "web1").run()
    site.inv("node.version", "--node", "web1", proof="web1").run()
    pids = {"agent": node.unit_pid(AGENT_SERVICE), "forwarder, 1 node": site.forwarder_pid}
    before = {what: cpu_s(pid) for what, pid in pids.items()}
    begun = time.monotonic()
    time.sleep(IDLE_S)  # this is what is measured
    took = time.monotonic() - begun
    compared = (
        f"user and system time of the process and its threads over {took:.0f} s, endpoint up, heartbeats included"
    )
    return [
        limit("P9", what, (cpu_s(pid) - before[what]) / took * 100, MOST_PERCENT, "%", compared)
        for what, pid in pids.items()
    ]


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used, its ended threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
