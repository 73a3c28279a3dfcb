"""The ssh configuration for workspaces: one file for each registry, a host pattern for each node, one key.

All of it is in `ssh/` of the state directory. ssh uses it once the operator's own configuration includes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codesmith.cli import hints
from codesmith.cli.cells import escape
from codesmith.errors import CodeSmithError, Unsupported
from codesmith.nodes.registry import Node, Registry
from codesmith.paths import ANOTHER_HOME, ensure_private, locked, state_dir, state_place, writing
from codesmith.ssh.openssh.command import version
from codesmith.ssh.options import FIXED, NOT_SHARED, SINCE, Option
from codesmith.ssh.target import parse_ssh_g
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.workspace import proxy_command

# A second name of every workspace's login, inside its runtime: a pattern can name only one user.
USER = "workspace"
SSH_G_TIMEOUT_S = KEYGEN_TIMEOUT_S = 20
# The programs that start ssh, and people, decide about these.
LEFT = ("RequestTTY", "EscapeChar")
# Options that an older ssh refuses, for all hosts. An IgnoreUnknown here would replace the operator's own.
NEWER = {**SINCE, "SessionType": (8, 7), "WarnWeakCrypto": (10, 1)}
# The stream is inside an SSH connection already. The default key exchange takes four times as long as all the rest.
CRYPTO = (
    ("KexAlgorithms", "^curve25519-sha256"),
    ("Ciphers", "^aes128-gcm@openssh.com"),
    ("WarnWeakCrypto", "no"),
)
# What ssh reads in another way within quotes, and what is a pattern in an Include.
UNUSABLE = frozenset('"\\%$*?[]\n\r')
# Say where the state and the sockets are, and which code runs.
VARIABLES = ("CODESMITH_HOME", "PYTHONPATH", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")


@dataclass(frozen=True)
class SshConfig:
    """The ssh configuration for the nodes of one registry."""

    registry: Registry

    @property
    def folder(self) -> Path:
        """The folder of its files; it may not exist."""
        digest = hashlib.sha256(os.fsencode(self.registry.path)).hexdigest()[:12]
        return place() / digest

    @property
    def path(self) -> Path:
        """The path of the configuration."""
        return self.folder / "config"

    @property
    def text(self) -> str:
        """The text of the configuration."""
        head = f"# By CodeSmith, for the nodes of {escape(str(self.registry.path))}: ssh WORKSPACE.NODE.codesmith\n"
        return head + "".join(map(self._block, self.registry.nodes.values()))

    @property
    def hosts(self) -> list[str]:
        """The host patterns."""
        return [f"*.{name}.codesmith" for name in self.registry.nodes]

    def write(self) -> None:
        """Write the configuration and what it names, replacing older files; the key is made once.

        Several callers at once do so one after the other.
        """
        names = {f"{name}.json" for name in self.registry.nodes}
        with writing(self.path), locked(state_dir()):  # a removal may take the folder `ssh` itself
            ensure_private(place())
            ensure_private(self.folder)
            ensure_key()
            for old in self.folder.glob("*.json"):
                if old.name not in names:
                    old.unlink(missing_ok=True)
            for node in self.registry.nodes.values():
                _write(self.folder / f"{node.name}.json", json.dumps(_how_to_open(node)))
            _write(self.path, self.text)

    def _block(self, node: Node) -> str:
        lines = [f"  {keyword} {value}\n" for keyword, value in self.options(node)]
        # A quote in the name would end the one around %n below; ssh gives every other character on as it is.
        return f'Host *.{node.name}.codesmith "!*\'*"\n{"".join(lines)}'

    def options(self, node: Node) -> list[Option]:
        """Return the options for the workspaces of a node, without those that the installed ssh does not know."""
        known = version()
        return [option for option in self._options(node) if NEWER.get(option[0], known) <= known]

    def _options(self, node: Node) -> Iterable[Option]:
        command = [os.path.realpath(sys.executable), "-IS", proxy_command.__file__]
        words = [*command, str(endpoint_path(node)), str(self.folder), node.name]
        yield "ProxyCommand", f"{shlex.join(words).replace('%', '%%')} '%n'"
        yield "ProxyUseFdpass", "yes"
        yield from (("HostName", "%h"), ("Port", "22"), ("User", USER))
        yield from (("IdentityFile", f'"{key_path()}"'), ("IdentitiesOnly", "yes"))
        yield from (("PubkeyAuthentication", "yes"), ("PreferredAuthentications", "publickey"))
        yield "UserKnownHostsFile", f'"{self.folder}/known_hosts"'
        yield from (("GlobalKnownHostsFile", os.devnull), ("HostKeyAlgorithms", "ssh-ed25519"), ("CheckHostIP", "no"))
        yield from CRYPTO
        yield from (*NOT_SHARED, ("ControlPersist", "no"), ("SessionType", "default"))
        yield from (("ForwardX11Trusted", "no"), ("CanonicalizeHostname", "no"))
        yield from (option for option in FIXED if option[0] not in LEFT)


def place() -> Path:
    """Return the folder of all ssh configurations; CodeSmithError if ssh could not read its path as it is."""
    path = state_place() / "ssh"
    if UNUSABLE & set(str(path)):
        raise CodeSmithError(f"an ssh configuration cannot name {str(path)!r}", hint=ANOTHER_HOME)
    return path


def key_path() -> Path:
    """Return the path of the operator's key for workspaces."""
    return place() / "id_ed25519"


def ensure_key() -> None:
    """Make the key unless it is there; it has no passphrase, and leads only to where the endpoints lead.

    With the folder locked, as for `_write`: a temporary name is free then.
    """
    path = key_path()
    if path.is_file() and path.with_suffix(".pub").is_file():
        return
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        raise Unsupported("there is no `ssh-keygen` on this machine", hint="apt install openssh-client")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        for old in (fresh, fresh.with_name(f"{fresh.name}.pub")):
            old.unlink(missing_ok=True)
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "codesmith", "-f", str(fresh)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=KEYGEN_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise CodeSmithError(f"ssh-keygen made no key: {done.stderr.strip()}", hint=shlex.join(command))
        fresh.rename(path)
        fresh.with_name(f"{fresh.name}.pub").rename(path.with_suffix(".pub"))


def alias_of(workspace: str, node: Node) -> str:
    """Return the host name of a workspace for ssh."""
    return f"{workspace}.{node.name}.codesmith"


def is_in_effect(config: SshConfig, node: Node) -> bool:
    """Return whether ssh, given an alias of the node, uses the configuration."""
    alias = alias_of("x", node)
    expected, effective = _effective("-F", str(config.path), alias), _effective(alias)
    # Keys that the operator's configuration adds do no harm.
    keywords = {keyword.lower() for keyword, _ in config.options(node)} - {"identityfile"}
    return "proxycommand" in expected and all(expected.get(keyword) == effective.get(keyword) for keyword in keywords)


def _effective(*words: str) -> dict[str, list[str]]:
    """Return the settings that `ssh -G` prints; empty if it fails."""
    try:
        done = subprocess.run(
            ["ssh", "-G", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SSH_G_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_ssh_g(done.stdout) if done.returncode == 0 else {}


def _how_to_open(node: Node) -> dict[str, object]:
    """Return the command that opens the node's endpoint, wherever and in whatever environment ssh runs."""
    # -P: not the modules of the folder that ssh runs in.
    start = [sys.executable, "-P", "-m", "codesmith", "node.connect", "--node", node.name, "--file", str(node.registry)]
    program = hints.command_name()
    return {"start": start, "program": program, "environment": {name: os.environ.get(name) for name in VARIABLES}}


def _write(path: Path, text: str) -> None:
    """Write a file that only the operator can read, replacing an older one at once."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
