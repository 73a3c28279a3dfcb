"""An operator with an own ssh configuration, and routes that lead to a node or not."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.secrets import Secrets
from codesmith.ssh.connect import connect
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target, resolve
from tests.ssh.remote_logins import add_login

SECRET = "pässword of ops"


@dataclass(frozen=True)
class Desk:
    """An operator whose ssh reads an ssh configuration of this test's own, and who reaches one node as root."""

    folder: Path
    node: LabNode
    undo: ExitStack

    @property
    def identity(self) -> str:
        """The key that logs in as root."""
        return str(self.node.address.identity)

    @property
    def host(self) -> str:
        """The node's address."""
        return str(self.node.address.host)

    def configure(self, text: str) -> None:
        """Write the ssh configuration."""
        (self.folder / "ssh_config").write_text(text)

    def entry(self, host: str = "web", **fields: Any) -> Node:
        """Return an entry of nodes.yaml."""
        return Node("web1", self.folder / "nodes.yaml", host, **{"user": "root", **fields})

    def sshd(self, *lines: str) -> None:
        """Give sshd other settings until the test ends."""
        file = self.node.root / "etc/ssh/sshd_config.d/00-test.conf"
        file.write_text("".join(f"{line}\n" for line in lines))
        restart_sshd(self.node)
        self.undo.callback(restart_sshd, self.node)
        self.undo.callback(file.unlink)

    def new_key(self, name: str) -> str:
        """Return a new private key that logs in as root."""
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        keys = self.node.root / "root/.ssh/authorized_keys"
        keys.write_text(keys.read_text() + Path(f"{path}.pub").read_text())
        return str(path)


def restart_sshd(node: LabNode) -> None:
    node.run(["systemctl", "reset-failed", "ssh"])
    node.run(["systemctl", "restart", "ssh"])


def run(target: Target, script: str = "id -un", secrets: Secrets | None = None) -> tuple[str, str]:
    """Return which carrier it was, and what the script said."""
    with connect(target, secrets=secrets or Secrets()) as connection:
        return connection.carrier, run_script(connection, script).stdout.decode().strip()


def unknown(desk: Desk) -> Target:
    (desk.folder / "known_hosts").write_text("")
    return resolve(desk.entry())


def changed(desk: Desk) -> Target:
    desk.new_key("id_other")
    other = " ".join((desk.folder / "id_other.pub").read_text().split()[:2])
    (desk.folder / "known_hosts").write_text(f"{desk.host} {other}\n")
    return resolve(desk.entry())


def wrong_password(desk: Desk) -> Target:
    add_login(desk.node, "ops", password=SECRET)
    desk.configure(f"Host web\n HostName {desk.host}\n IdentityFile none\n")
    return resolve(desk.entry(user="ops"))
