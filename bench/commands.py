"""The command lines that are timed, on the same nodes: inv, stock Fabric, pyinfra, ansible."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from bench.clock import Command
from bench.site import PEERS, Site, each


class Commands:
    """Command lines for one or several nodes, by name. Arguments in capitals become environment variables."""

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        self._site, self._names = site, names

    def inv(self, task: str, *argv: object, proof: str) -> Command:
        """Return `inv TASK` for these nodes."""
        return self._site.inv(task, *map(str, argv), *each(self._names), proof=proof)

    def fabric(self, program: str, *argv: object, proof: str) -> Command:
        """Return a program of peers/ that opens one stock Fabric connection to the first node."""
        node = self._site.address(self._names[0])
        address = (node["host"], node["port"], node["identity"], self._site.known_hosts)
        return self._site.command(sys.executable, PEERS / program, *address, *argv, proof=proof)

    def pyinfra(self, deploy: str, *, proof: str, **environment: str) -> Command:
        """Return pyinfra with `-y`, so that it does not ask."""
        program, files = self._site.peer("pyinfra"), (PEERS / "pyinfra_inventory.py", PEERS / deploy)
        return self._site.command(program, "-y", *files, proof=proof, **environment, **self._node_variables())

    def ansible(self, playbook: str, *, proof: str, **environment: str) -> Command:
        """Return ansible-playbook with pipelining; after `end_masters` the next run starts cold, like the others."""
        options = (
            f"-o UserKnownHostsFile={self._site.known_hosts} -o IdentitiesOnly=yes "
            "-o ControlMaster=auto -o ControlPersist=60s"
        )
        inventory = self._site.folder / f"{self._names[0]}.ini"
        inventory.write_text("".join(self._inventory_line(name, self._site.address(name)) for name in self._names))
        settings = {
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_ARGS": options,
            "ANSIBLE_SSH_CONTROL_PATH": self._control_path,
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        argv = ("-f", len(self._names), "-i", inventory, PEERS / playbook)
        program = self._site.peer("ansible-playbook")
        return self._site.command(program, *argv, proof=proof, **settings, **environment, **self._node_variables())

    def end_masters(self) -> None:
        """End the ssh masters that ansible has left running."""
        for name in self._names:
            address = self._site.address(name)
            path = self._control_path.replace("%%h", address["host"]).replace("%%p", address["port"])
            self._site.command("ssh", "-o", f"ControlPath={path}", "-O", "exit", address["host"]).run()

    @property
    def _control_path(self) -> str:
        """The ControlPath of ansible's ssh masters, with ansible's `%%` escapes."""
        return str(self._site.folder / "ssh-%%h-%%p")

    def _inventory_line(self, name: str, address: Mapping[str, str]) -> str:
        return (
            f"{name} ansible_host={address['host']} ansible_port={address['port']} ansible_user=root "
            f"ansible_ssh_private_key_file={address['identity']} ansible_python_interpreter=/usr/bin/python3\n"
        )

    def _node_variables(self) -> dict[str, str]:
        return {
            "BENCH_NODES": json.dumps([self._site.address(name) for name in self._names]),
            "BENCH_KNOWN_HOSTS": str(self._site.known_hosts),
        }
