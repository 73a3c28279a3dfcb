"""P13: a command in a workspace whose runtime runs, and the first one, which starts it."""

from __future__ import annotations

from bench.clock import in_turns
from bench.raw_client import Caller
from bench.row import Row, ratio
from bench.site import Site
from bench.ssh_master import master, ssh
from codesmith.lab import LabNode

NEAR_ROUNDS, FAR_ROUNDS, FIRST_ROUNDS = 60, 20, 12
RTT_MS = 50
NAME = "ready13"
ARGV = ["true"]


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure at 0 ms beside ssh, at 50 ms beside the round trip, and the first command on the node."""
    site.inv("node.connect", "--node", "web1").run()
    site.inv("workspace.create", NAME, "--node", "web1", proof=NAME).run()
    near = _near(site)
    with node.relay(RTT_MS) as address:
        site.enter("away", node, *address)
        caller = Caller(site.endpoint("away"), "workspace.exec", name=NAME, argv=ARGV)
        (far,) = in_turns(FAR_ROUNDS, caller.call)
        caller.close()
        site.inv("node.disconnect", "--node", "away").run()
    first = site.on(node, "first_command.py", FIRST_ROUNDS)
    return [
        near,
        ratio("P13", f"exec, {RTT_MS} ms, beside one round trip", far, [RTT_MS / 1000], 1.1,
              f"workspace.exec of `true` on a kept connection, runtime running, through a relay that adds {RTT_MS} ms; "
              f"beside the round trip itself; {FAR_ROUNDS} turns"),
        ratio("P13", "the first exec", first["agent"], first["bare"], 1.5,
              "on the node: workspace.exec of `true` over the agent's socket, runtime stopped, helper warm; "
              f"`systemd-run --pipe --wait` with the properties of the runtime; {FIRST_ROUNDS} turns"),
    ]  # fmt: skip


def _near(site: Site) -> Row:
    caller = Caller(site.endpoint("web1"), "workspace.exec", name=NAME, argv=ARGV)
    with master(site, "web1") as options:
        runuser = ssh(site, "web1", "runuser", "-u", f"cs-{NAME}", "--", *ARGV, options=options)
        ours, theirs = in_turns(NEAR_ROUNDS, caller.call, runuser.run)
    caller.close()
    return ratio(
        "P13", "exec, 0 ms", ours, theirs, 0.15,
        "workspace.exec of `true`, raw client on a kept connection, runtime running; whole process "
        f"`ssh -S MASTER NODE runuser -u LOGIN -- true` over a live master; {NEAR_ROUNDS} turns",
    )  # fmt: skip
