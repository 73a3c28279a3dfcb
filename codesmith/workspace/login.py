"""How an operator enters a workspace: the ssh command, or the editor; both as the workspace's own login."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from codesmith.errors import AuthenticationFailed, Unsupported
from codesmith.nodes.registry import Node
from codesmith.ssh.options import SESSION_ARGUMENTS, Option, arguments, route_options
from codesmith.ssh.target import Target, ensure_identity, resolve
from codesmith.workspace import ssh_config

EDITORS = ("code",)
TIMEOUT_S = 20
# What sshd sets by itself.
OF_THE_LOGIN = ("HOME",)


# A login of a workspace has no password, and sshd's other methods ask the node who one is.
METHODS: tuple[Option, ...] = (("PubkeyAuthentication", "yes"), ("PreferredAuthentications", "publickey"))
ESCAPE: Option = ("EscapeChar", "~")


@dataclass(frozen=True)
class LoginCommand:
    """The way into one workspace of one node."""

    workspace: str
    node: Node
    target: Target
    login: str
    directory: str
    environment: Mapping[str, str]

    @property
    def ssh(self) -> tuple[str, ...]:
        """Return the command that opens a login shell in the workspace."""
        exports = " ".join(
            f"{key}={shlex.quote(value)}" for key, value in self.environment.items() if key not in OF_THE_LOGIN
        )
        inside = f'cd {shlex.quote(self.directory)} && export {exports} && exec "$SHELL" -l'
        where = f"{self.login}@{self.target.alias or self.target.host}"
        return ("ssh", "-t", *arguments((*self._options, ESCAPE)), *SESSION_ARGUMENTS, "--", where, inside)

    @property
    def block(self) -> ssh_config.Block:
        """Return the way as ssh configuration, for a program that takes nothing but the name of a host."""
        note = f"workspace {self.workspace} on node {self.node.name} of {self.node.registry}"
        return ssh_config.Block(self.workspace, self.node.name, note, (("User", self.login), *self._options))

    @property
    def editor_uri(self) -> str:
        """Return what VS Code's Remote - SSH opens; the ssh configuration has to know the name in it."""
        return f"vscode-remote://ssh-remote+{self.block.alias}{quote(self.directory)}"

    @property
    def _options(self) -> Iterator[Option]:
        yield from route_options(self.target)
        yield from METHODS


def login_command(
    workspace: str, node: Node, login: str, directory: str, environment: Mapping[str, str]
) -> LoginCommand:
    """Return the way into a workspace, and write its block of ssh configuration; nothing is connected."""
    target = resolve(node)
    ensure_identity(target)
    way = LoginCommand(workspace, node, target, login, directory, environment)
    ssh_config.write(way.block)
    return way


def check_key(way: LoginCommand, authorised: Iterable[str], user: str) -> None:
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
    files = (name for path in target.identities for name in (path, f"{path}.pub") if Path(name).is_file())
    found = {_first(["ssh-keygen", "-l", "-f", name]) for name in files}
    if target.identities_only:
        return {word for word in found if word}
    agent = _run(["ssh-add", "-l"], {} if target.identity_agent is None else {"SSH_AUTH_SOCK": target.identity_agent})
    return {word for word in found if word} | {word for line in agent for word in line.split()[1:2]}


def enter(way: LoginCommand) -> NoReturn:
    """Become ssh, with this terminal."""
    if shutil.which("ssh") is None:
        raise Unsupported("there is no `ssh` on this machine", hint="apt install openssh-client")
    sys.stdout.flush()
    os.execvp("ssh", way.ssh)  # noqa: S606  the operator's own, found as the shell finds it


def edit(way: LoginCommand, editor: str) -> None:
    """Open the workspace in an editor of this machine, which reads the way there from the ssh configuration."""
    program = shutil.which(editor)
    if program is None:
        raise Unsupported(
            f"there is no `{editor}` on this machine",
            hint="install VS Code with its Remote - SSH extension, or enter with --shell",
        )
    ssh_config.ensure_in_effect(way.block)
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
