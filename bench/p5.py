"""P5: prepare with nothing to do, beside one Fabric connection with one script, pyinfra and ansible-core."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from bench import checks
from bench.clock import Command, in_turns
from bench.row import Row, excess, ratio
from bench.site import PEERS, Site
from codesmith.lab import LabNode
from codesmith.lab.relay import Relay

NEAR_ROUNDS, FAR_ROUNDS, ANSIBLE_ROUNDS = 15, 5, 3
RTT_MS = 50
SAME = "all look at the same accounts, directories, link, files with checksum, units"


class Door:
    """The way to one node or to several, and the command line of everybody who goes through it."""

    def __init__(self, site: Site, names: Sequence[str], checked: int) -> None:
        self._site, self._names = site, names
        self._name, self._where = names[0], site.way(names[0])
        total = checked * len(names)
        # Columns: hosts, success, error, no change.
        self._unchanged = f"Grand total {total} - - {total} "

    def prepare(self) -> Command:
        """Return `inv node.prepare`."""
        return self._site.inv("node.prepare", "--node", self._name, proof="nothing to do")

    def fabric(self) -> Command:
        """Return one stock Fabric connection that runs the whole check as one script."""
        where, script = self._where, self._site.folder / "checks.sh"
        argv = (where["host"], where["port"], where["identity"], self._site.known_hosts, script)
        return self._site.command(sys.executable, PEERS / "fabric_script.py", *argv, proof="nothing to do")

    def pyinfra(self) -> Command:
        """Return pyinfra, run without asking."""
        files = (PEERS / "pyinfra_inventory.py", PEERS / "pyinfra_deploy.py")
        return self._site.command(self._site.peer("pyinfra"), "-y", *files, proof=self._unchanged, **self._bench())

    def ansible(self) -> Command:
        """Return ansible-playbook with pipelining; its ssh stays cold from run to run."""
        options = (
            f"-o UserKnownHostsFile={self._site.known_hosts} -o IdentitiesOnly=yes "
            "-o ControlMaster=auto -o ControlPersist=60s"
        )
        inventory = "".join(self._inventory_line(name, self._site.way(name)) for name in self._names)
        (self._site.folder / f"{self._name}.ini").write_text(inventory)
        environment = {
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_ARGS": options,
            "ANSIBLE_SSH_CONTROL_PATH": self.control_path,
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        argv = ("-f", len(self._names), "-i", self._site.folder / f"{self._name}.ini", PEERS / "ansible_playbook.yml")
        program = self._site.peer("ansible-playbook")
        return self._site.command(program, *argv, proof="changed=0", **environment, **self._bench())

    def ansible_and_end(self) -> float:
        """Run ansible and end the masters that it left, so that its next run is cold like everybody's."""
        took = self.ansible().run()
        for name in self._names:
            way = self._site.way(name)
            path = self.control_path.replace("%%h", way["host"]).replace("%%p", way["port"])
            self._site.command("ssh", "-o", f"ControlPath={path}", "-O", "exit", way["host"]).run()
        return took

    @property
    def control_path(self) -> str:
        """Where ansible's ssh leaves its masters, as ansible writes it."""
        return str(self._site.folder / "ssh-%%h-%%p")

    def _inventory_line(self, name: str, way: Mapping[str, str]) -> str:
        return (
            f"{name} ansible_host={way['host']} ansible_port={way['port']} ansible_user=root "
            f"ansible_ssh_private_key_file={way['identity']} ansible_python_interpreter=/usr/bin/python3\n"
        )

    def _bench(self) -> dict[str, str]:
        return {
            "BENCH_WAYS": json.dumps([self._site.way(name) for name in self._names]),
            "BENCH_KNOWN_HOSTS": str(self._site.known_hosts),
            "BENCH_CHECKS": str(self._site.folder / "checks.json"),
        }


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure at 0 ms, then through a relay: times and round trips."""
    checked = checks.write(site.folder, site.agent_file)
    near = Door(site, ["web1"], checked)
    ours, script = in_turns(NEAR_ROUNDS, near.prepare().run, near.fabric().run)
    what = f"`inv node.prepare` with nothing to do; a Python program with stock Fabric: connect, one script; {SAME}"
    first = ratio("P5", "prepare, 0 ms, beside Fabric + script", ours, script, 1.5, f"{what}; {NEAR_ROUNDS} turns")
    with (relay := node.relay(RTT_MS)) as way:
        site.enter("far", node, *way)
        return [first, *_far(relay, Door(site, ["far"], checked))]


def _far(relay: Relay, door: Door) -> list[Row]:
    prepare, script = Counted(relay, door.prepare()), Counted(relay, door.fabric())
    ours, theirs, pyinfra = in_turns(FAR_ROUNDS, prepare.run, script.run, door.pyinfra().run)
    more, slowest = in_turns(ANSIBLE_ROUNDS, prepare.run, door.ansible_and_end)
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
        """Run it, remember its round trips: a connection costs one, as does each answer after a request."""
        before = self._relay.traffic()
        took = self._command.run()
        after = self._relay.traffic()
        self.connections = after.connections - before.connections
        self.trips.append(self.connections + after.round_trips - before.round_trips)
        return took
