"""The way to nodes for everybody who is timed: inv, stock Fabric, pyinfra, ansible; each set up alike each time."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from bench.clock import Command
from bench.site import PEERS, Site, each


class Door:
    """One node or several, by name, and command lines that go there. What is in capitals goes to the environment."""

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        self._site, self._names = site, names

    def inv(self, task: str, *argv: object, proof: str) -> Command:
        """Return `inv TASK` for these nodes."""
        return self._site.inv(task, *map(str, argv), *each(self._names), proof=proof)

    def fabric(self, program: str, *argv: object, proof: str) -> Command:
        """Return one of our programs with one stock Fabric connection, to the first node."""
        where = self._site.way(self._names[0])
        way = (where["host"], where["port"], where["identity"], self._site.known_hosts)
        return self._site.command(sys.executable, PEERS / program, *way, *argv, proof=proof)

    def pyinfra(self, deploy: str, *, proof: str, **environment: str) -> Command:
        """Return pyinfra, run without asking."""
        program, files = self._site.peer("pyinfra"), (PEERS / "pyinfra_inventory.py", PEERS / deploy)
        return self._site.command(program, "-y", *files, proof=proof, **environment, **self._ways())

    def ansible(self, playbook: str, *, proof: str, **environment: str) -> Command:
        """Return ansible-playbook with pipelining; `end_masters` makes the next run cold, like everybody's."""
        options = (
            f"-o UserKnownHostsFile={self._site.known_hosts} -o IdentitiesOnly=yes "
            "-o ControlMaster=auto -o ControlPersist=60s"
        )
        inventory = self._site.folder / f"{self._names[0]}.ini"
        inventory.write_text("".join(self._inventory_line(name, self._site.way(name)) for name in self._names))
        settings = {
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_ARGS": options,
            "ANSIBLE_SSH_CONTROL_PATH": self._control_path,
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        argv = ("-f", len(self._names), "-i", inventory, PEERS / playbook)
        program = self._site.peer("ansible-playbook")
        return self._site.command(program, *argv, proof=proof, **settings, **environment, **self._ways())

    def end_masters(self) -> None:
        """End the ssh masters that ansible left."""
        for name in self._names:
            way = self._site.way(name)
            path = self._control_path.replace("%%h", way["host"]).replace("%%p", way["port"])
            self._site.command("ssh", "-o", f"ControlPath={path}", "-O", "exit", way["host"]).run()

    @property
    def _control_path(self) -> str:
        """Where ansible's ssh leaves its masters, as ansible writes it."""
        return str(self._site.folder / "ssh-%%h-%%p")

    def _inventory_line(self, name: str, way: Mapping[str, str]) -> str:
        return (
            f"{name} ansible_host={way['host']} ansible_port={way['port']} ansible_user=root "
            f"ansible_ssh_private_key_file={way['identity']} ansible_python_interpreter=/usr/bin/python3\n"
        )

    def _ways(self) -> dict[str, str]:
        return {
            "BENCH_WAYS": json.dumps([self._site.way(name) for name in self._names]),
            "BENCH_KNOWN_HOSTS": str(self._site.known_hosts),
        }
