"""How an operator enters a workspace: the ssh command, or the editor; both as the workspace's own login."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from codesmith.errors import AuthenticationFailed, Unsupported
from codesmith.registry import Node
from codesmith.remote.target import SSH_PORT, Target, resolve

EDITORS = ("code",)
TIMEOUT_S = 20
# What sshd sets by itself.
OF_THE_LOGIN = ("HOME",)


@dataclass(frozen=True)
class Way:
    """The way into one workspace of one node."""

    node: Node
    target: Target
    login: str
    directory: str
    environment: Mapping[str, str]

    @property
    def host(self) -> str:
        """Return the host as nodes.yaml has it: an alias of the operator's ssh configuration stays one."""
        return self.target.host if self.node.lab else self.node.host or self.node.name

    @property
    def ssh(self) -> tuple[str, ...]:
        """Return the command that opens a login shell in the workspace."""
        exports = " ".join(
            f"{key}={shlex.quote(value)}" for key, value in self.environment.items() if key not in OF_THE_LOGIN
        )
        inside = f'cd {shlex.quote(self.directory)} && export {exports} && exec "$SHELL" -l'
        return ("ssh", "-t", *self._options(), "--", f"{self.login}@{self.host}", inside)

    @property
    def editor_uri(self) -> str:
        """Return what VS Code's Remote - SSH opens."""
        port = "" if self.target.port == SSH_PORT else f":{self.target.port}"
        return f"vscode-remote://ssh-remote+{self.login}@{self.host}{port}{quote(self.directory)}"

    def _options(self) -> Iterable[str]:
        """Name only what nodes.yaml or the lab says; the rest is in the operator's ssh configuration."""
        is_ours = bool(self.node.lab)
        if self.node.port or (is_ours and self.target.port != SSH_PORT):
            yield from ("-p", str(self.target.port))
        if self.node.identity or is_ours:
            yield from (word for path in self.target.identities[:1] for word in ("-i", path))
        if self.target.host_key_alias and is_ours:
            yield from ("-o", f"HostKeyAlias={self.target.host_key_alias}")
        files = " ".join(f'"{path}"' for path in self.target.known_hosts)
        yield from ("-o", f"UserKnownHostsFile={files}")


def way_to(node: Node, login: str, directory: str, environment: Mapping[str, str]) -> Way:
    """Return the way into a workspace; nothing is connected."""
    return Way(node, resolve(node), login, directory, environment)


def check_key(way: Way, authorised: Iterable[str], user: str) -> None:
    """Raise AuthenticationFailed when none of the operator's keys is among these fingerprints."""
    wanted = set(authorised)
    if wanted & own_fingerprints(way.target):
        return
    keys = "another key" if wanted else "no key at all"
    raise AuthenticationFailed(
        f"{way.login} on {way.node.name} lets {keys} in, none of yours",
        hint=f"inv workspace.exec shows and does the same without a key; for a shell give user {user} a key of yours",
    )


def own_fingerprints(target: Target) -> set[str]:
    """Return the fingerprints of the operator's key files and of the keys in the ssh agent."""
    found = {_first(["ssh-keygen", "-l", "-f", path]) for path in target.identities if Path(path).is_file()}
    agent = _run(["ssh-add", "-l"], {} if target.identity_agent is None else {"SSH_AUTH_SOCK": target.identity_agent})
    return {word for word in found if word} | {word for line in agent for word in line.split()[1:2]}


def enter(way: Way) -> NoReturn:
    """Become ssh, with this terminal."""
    if shutil.which("ssh") is None:
        raise Unsupported("there is no `ssh` on this machine", hint="apt install openssh-client")
    sys.stdout.flush()
    os.execvp("ssh", way.ssh)  # noqa: S606  the operator's own, found as the shell finds it


def edit(way: Way, editor: str) -> None:
    """Open the workspace in an editor of this machine."""
    program = shutil.which(editor)
    if program is None:
        raise Unsupported(
            f"there is no `{editor}` on this machine",
            hint="install VS Code with its Remote - SSH extension, or enter with --shell",
        )
    subprocess.run([program, "--folder-uri", way.editor_uri], check=False, stdin=subprocess.DEVNULL)


def _first(argv: list[str]) -> str:
    words = [word for line in _run(argv, {})[:1] for word in line.split()]
    return words[1] if len(words) > 1 else ""


def _run(argv: list[str], environment: Mapping[str, str]) -> list[str]:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, **environment},
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
