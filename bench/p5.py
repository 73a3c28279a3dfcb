"""P5: prepare with nothing to do, beside one Fabric connection with one script, pyinfra and ansible-core."""

from __future__ import annotations

from collections.abc import Sequence

from bench import checks
from bench.clock import Command, in_turns
from bench.commands import Commands
from bench.row import Row, excess, ratio
from bench.site import Site
from codesmith.lab import LabNode
from codesmith.lab.relay import Relay

NEAR_ROUNDS, FAR_ROUNDS, ANSIBLE_ROUNDS = 15, 5, 3
RTT_MS = 50
SAME = "all look at the same accounts, directories, links, files with checksum, units"


class Looking:
    """The commands that check prepared nodes, where nothing is to be done."""

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        self._commands, self._folder = Commands(site, names), site.folder
        total = checks.write(site.folder, site.agent_file) * len(names)
        self._checks = {"BENCH_CHECKS": str(site.folder / "checks.json")}
        # Columns: hosts, success, error, no change.
        self._unchanged = f"Grand total {total} - - {total} "

    def prepare(self) -> Command:
        """Return `inv node.prepare`."""
        return self._commands.inv("node.prepare", proof="nothing to do")

    def fabric(self) -> Command:
        """Return a program that runs all checks as one script, over one stock Fabric connection."""
        return self._commands.fabric("fabric_script.py", self._folder / "checks.sh", proof="nothing to do")

    def pyinfra(self) -> Command:
        """Return the checks as a pyinfra deploy."""
        return self._commands.pyinfra("pyinfra_deploy.py", proof=self._unchanged, **self._checks)

    def ansible(self) -> float:
        """Run the checks as a playbook from a cold start; return the seconds."""
        took = self._commands.ansible("ansible_playbook.yml", proof="changed=0", **self._checks).run()
        self._commands.end_masters()
        return took


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure at 0 ms, then through a relay: times and round trips."""
    near = Looking(site, ["web1"])
    ours, script = in_turns(NEAR_ROUNDS, near.prepare().run, near.fabric().run)
    what = f"`inv node.prepare` with nothing to do; a Python program with stock Fabric: connect, one script; {SAME}"
    first = ratio("P5", "prepare, 0 ms, beside Fabric + script", ours, script, 1.5, f"{what}; {NEAR_ROUNDS} turns")
    with (relay := node.relay(RTT_MS)) as address:
        site.enter("far", node, *address)
        return [first, *_far(relay, Looking(site, ["far"]))]


def _far(relay: Relay, everybody: Looking) -> list[Row]:
    prepare, script = Counted(relay, everybody.prepare()), Counted(relay, everybody.fabric())
    ours, theirs, pyinfra = in_turns(FAR_ROUNDS, prepare.run, script.run, everybody.pyinfra().run)
    more, slowest = in_turns(ANSIBLE_ROUNDS, prepare.run, everybody.ansible)
    trips, reference = prepare.trips[1:], script.trips[1:]
    through = f"through a relay that adds {RTT_MS} ms; {SAME}"
    return [
        excess(
            "P5", "prepare, round trips", trips, reference, 2,
            f"connections and answers after a request, counted by the relay; {prepare.connections} connection beside "
            f"{script.connections}; stock Fabric: connect, one script",
        ),
        ratio("P5", f"prepare, {RTT_MS} ms, beside Fabric + script", ours, theirs, 1.5, f"as at 0 ms, {through}"),
        ratio("P5", f"prepare, {RTT_MS} ms, beside pyinfra", ours, pyinfra, 0.5, f"second, unchanged run {through}"),
        ratio(
            "P5", f"prepare, {RTT_MS} ms, beside ansible", more, slowest, 0.2,
            f"second, unchanged run with pipelining, facts not gathered, {through}",
        ),
    ]  # fmt: skip


class Counted:
    """A command whose round trips through the relay are counted."""

    def __init__(self, relay: Relay, command: Command) -> None:
        self._relay, self._command = relay, command
        self.trips: list[float] = []
        self.connections = 0

    def run(self) -> float:
        """Run it and record its round trips: one for a connection, one for each answer after a request."""
        before = self._relay.traffic()
        took = self._command.run()
        after = self._relay.traffic()
        self.connections = after.connections - before.connections
        self.trips.append(self.connections + after.round_trips - before.round_trips)
        return took
