"""P8: memory of agent, forwarder and helper while nobody calls."""

from __future__ import annotations

from pathlib import Path

from bench.clock import until
from bench.row import Row, limit
from bench.site import FLEET, Site, each
from codesmith.bootstrap.layout import AGENT_SERVICE, HELPER_SERVICE
from codesmith.errors import CodeSmithError
from codesmith.lab import LabNode

NODES = len(FLEET)
CALLS, CALLS_BEFORE = 10_000, 1_000
AGENT_MB, GROWTH_MB, FORWARDER_MB, FURTHER_NODE_MB = 30.0, 1.0, 40.0, 1.5
HELPER_LEAVES_WITHIN_S = 90.0


def rows(site: Site) -> list[Row]:
    """Measure agent and helper on a node of their own, then the forwarder with one and with thirty nodes."""
    node = _bare_node(site)
    return [*_agent(site, node), *_forwarder(site), *_helper(site, node)]


def _bare_node(site: Site) -> LabNode:
    """Return a prepared node whose agent has handled no calls yet."""
    if not site.has("idle1"):
        site.boot("idle1")
        site.inv("node.prepare", "--node", "idle1", proof="prepared").run()
    return site.node("idle1")


def _agent(site: Site, node: LabNode) -> list[Row]:
    node.run(["systemctl", "restart", AGENT_SERVICE])
    site.on(node, "call_often.py", 1)
    idle, idle_pss = memory_mb(node.unit_pid(AGENT_SERVICE))
    site.on(node, "call_often.py", CALLS_BEFORE)
    before, _ = memory_mb(node.unit_pid(AGENT_SERVICE))
    site.on(node, "call_often.py", CALLS)
    after, after_pss = memory_mb(node.unit_pid(AGENT_SERVICE))
    calls = f"{CALLS:,} more calls (looks, lists, refusals; every tenth on a new connection)"
    return [
        limit("P8", "agent, idle", idle, AGENT_MB, "MB", f"VmRSS after a restart and one call (PSS {idle_pss:.1f})"),
        limit("P8", "agent, after 10,000 calls", after, AGENT_MB, "MB", f"VmRSS after {calls} (PSS {after_pss:.1f})"),
        limit(
            "P8", "agent, growth", after - before, GROWTH_MB, "MB",
            f"VmRSS now beside {before:.1f} MB after its first {CALLS_BEFORE:,} calls",
        ),
    ]  # fmt: skip


def _forwarder(site: Site) -> list[Row]:
    site.inv("node.disconnect", "--all").run()
    one, one_pss = _connected(site, ["idle1"])
    names = site.fleet()
    all_, all_pss = _connected(site, names)
    site.inv("node.disconnect", "--all").run()
    most = FORWARDER_MB + FURTHER_NODE_MB * (NODES - 1)
    further = (all_ - one) / (NODES - 1)
    what = "VmRSS, each endpoint up and called once"
    return [
        limit("P8", "forwarder, 1 node", one, FORWARDER_MB, "MB", f"{what} (PSS {one_pss:.1f})"),
        limit(
            "P8", f"forwarder, {NODES} nodes", all_, most, "MB",
            f"{what} (PSS {all_pss:.1f}); {further:.2f} MB per further node",
        ),
    ]  # fmt: skip


def _connected(site: Site, names: list[str]) -> tuple[float, float]:
    """Return the forwarder's memory once it serves these nodes."""
    site.inv("node.connect", *each(names)).run()
    site.inv("node.version", *each(names), "--json", proof='"build"').run()
    return memory_mb(site.forwarder_pid)


def _helper(site: Site, node: LabNode) -> list[Row]:
    site.on(node, "create_workspaces.py", 1)
    if not node.unit_pid(HELPER_SERVICE):
        raise CodeSmithError("the helper did not run, so its idle state cannot be measured")
    until(lambda: not node.unit_pid(HELPER_SERVICE), HELPER_LEAVES_WITHIN_S)
    left = 1 if node.unit_pid(HELPER_SERVICE) else 0
    compared = f"processes of {HELPER_SERVICE} after its last call, waited for at most {HELPER_LEAVES_WITHIN_S:.0f} s"
    return [limit("P8", "helper, idle", left, 0, "processes", compared)]


def memory_mb(pid: int) -> tuple[float, float]:
    """Return VmRSS and PSS of a process, in MB of 1,048,576 bytes."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return _kib(status, "VmRSS:") / 1024, _kib(rollup, "Pss:") / 1024


def _kib(lines: list[str], field: str) -> int:
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
