"""An operator with keys and an ssh configuration, and what they do on a node."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.secrets import Secrets
from codesmith.ssh.fabric_connection import connect
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target, resolve

RESTART = "systemctl reset-failed ssh; systemctl restart ssh"
TYPES = {"ed25519": ("-t", "ed25519"), "ecdsa": ("-t", "ecdsa"), "rsa": ("-t", "rsa")}


@dataclass(frozen=True)
class Operator:
    """An operator with an ssh configuration, and a node that may know their keys."""

    folder: Path
    far: LabNode

    def configure(self, text: str) -> None:
        """Write the ssh configuration of `web`."""
        (self.folder / "ssh_config").write_text(f"Host web\n HostName {self.far.record.host}\n User root\n{text}")

    def target(self, **fields: object) -> Target:
        """Return the target of `web` in nodes.yaml."""
        return resolve(Node("web", self.folder / "nodes.yaml", "web", **fields))  # type: ignore[arg-type]

    def who(self, secrets: Secrets | None = None, **fields: object) -> str:
        """Log in as the configuration says; return who we are there."""
        return who(self.target(**fields), secrets)

    def is_let_in_by_ssh(self) -> bool:
        """Return whether plain ssh logs in with the same configuration."""
        words = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "web", "true"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def authorise(self, key: str, login: str = "root") -> None:
        """Authorise a key."""
        home = "root" if login == "root" else f"home/{login}"
        with (self.far.root / home / ".ssh/authorized_keys").open("a") as file:
            file.write(Path(f"{key}.pub").read_text())

    def sign(self, authority: str, key: str, *options: str) -> str:
        """Make a certificate; return its path."""
        options = options or ("-n", "root")
        subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "of-a-test", *options, f"{key}.pub"], check=True)
        return f"{key}-cert.pub"


@contextmanager
def ssh_agent(folder: Path, *keys: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """An ssh agent with these keys; gives its socket."""
    path = folder / f"agent-{os.urandom(2).hex()}"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path), "SSH_ASKPASS_REQUIRE": "force"}
            # Locked keys are opened by the program that says "secret".
            ask = folder / "ask"
            ask.write_text("#!/bin/sh\necho secret\n")
            ask.chmod(0o755)
            environment |= {"SSH_ASKPASS": str(ask), "DISPLAY": ":0"}
            deadline = time.monotonic() + 15
            while subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True, check=False).returncode == 2:
                assert time.monotonic() < deadline
            if keys:
                subprocess.run(["ssh-add", "-q", *options, *keys], env=environment, check=True, capture_output=True)
            yield str(path)
        finally:
            process.terminate()


@contextmanager
def sshd(far: LabNode, text: str) -> Iterator[None]:
    """Give sshd other settings for a while."""
    file = far.root / "etc/ssh/sshd_config.d/00-a-test.conf"
    file.write_text(f"{text}\n")
    far.run(["/bin/sh", "-c", RESTART])
    try:
        yield
    finally:
        file.unlink()
        far.run(["/bin/sh", "-c", RESTART])


def who(target: Target, secrets: Secrets | None = None) -> str:
    """Log in by Fabric, and return as whom."""
    connection = connect(target, secrets=secrets or Secrets())
    try:
        return run_script(connection, "id -un").stdout.decode().strip()
    finally:
        connection.close()
