"""P14: `ssh` by the alias of a workspace, over an endpoint that is up, beside `ssh` to the node from nothing."""

from __future__ import annotations

import json
import subprocess

from bench.clock import Command, in_turns
from bench.row import Row, ratio
from bench.site import Site
from bench.ssh_master import ssh
from codesmith.lab import LabNode

ROUNDS = 12
RTT_MS = 50
NAME = "door14"
NEAR, FAR = 1.0, 0.6
WHAT = (
    "`ssh WORKSPACE.NODE.codesmith true`, endpoint up, runtime running; `ssh NODE true` without a master; "
    "whole processes"
)


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure at 0 ms, then through a relay."""
    site.inv("workspace.create", NAME, "--node", "web1", proof=NAME).run()
    found = [_compare(site, "web1", "0 ms", NEAR)]
    with node.relay(RTT_MS) as address:
        site.enter("away", node, *address)
        found.append(_compare(site, "away", f"{RTT_MS} ms", FAR))
        site.inv("node.disconnect", "--node", "away").run()
    return found


def _compare(site: Site, name: str, where: str, most: float) -> Row:
    site.inv("node.connect", "--node", name).run()
    alias = site.command("ssh", "-F", _config(site), f"{NAME}.{name}.codesmith", "true")
    alias.run()  # starts the runtime
    ours, theirs = in_turns(ROUNDS, alias.run, ssh(site, name, "true").run)
    return ratio("P14", f"ssh by the alias, {where}", ours, theirs, most, f"{WHAT}; {ROUNDS} turns")


def _config(site: Site) -> str:
    """Return the path of the ssh configuration for the nodes of this site."""
    command: Command = site.inv("ssh.config", "--print", "--json")
    done = subprocess.run(command.argv, cwd=command.folder, env=command.environment, capture_output=True, check=True)
    return str(json.loads(done.stdout)["config"])
