"""Log in to a workspace: by ssh or in an editor, both as the workspace's own login."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote

from codesmith.errors import AuthenticationFailed, Unsupported
from codesmith.nodes.registry import Node
from codesmith.ssh.options import SESSION_ARGUMENTS, Option, arguments, is_there, route_options
from codesmith.ssh.target import Target, ensure_identity, resolve
from codesmith.workspace import ssh_config

EDITORS = ("code",)
TIMEOUT_S = 20
# Variables that sshd sets itself.
SET_BY_SSHD = ("HOME",)

# A workspace's login has no password, so only public keys can succeed.
METHODS: tuple[Option, ...] = (("PubkeyAuthentication", "yes"), ("PreferredAuthentications", "publickey"))
ESCAPE: Option = ("EscapeChar", "~")


@dataclass(frozen=True)
class LoginCommand:
    """How to log in to one workspace of one node."""

    workspace: str
    node: Node
    target: Target
    login: str
    directory: str
    environment: Mapping[str, str]

    @property
    def ssh(self) -> tuple[str, ...]:
        """Return the ssh command that opens a login shell in the workspace."""
        exports = " ".join(
            f"{key}={shlex.quote(value)}" for key, value in self.environment.items() if key not in SET_BY_SSHD
        )
        remote_command = f'cd {shlex.quote(self.directory)} && export {exports} && exec "$SHELL" -l'
        destination = f"{self.login}@{self.target.alias or self.target.host}"
        return (
            "ssh",
            "-t",
            *arguments((*self._options, ESCAPE)),
            *SESSION_ARGUMENTS,
            "--",
            destination,
            remote_command,
        )

    @property
    def block(self) -> ssh_config.Block:
        """Return the same settings as an ssh_config block, for programs that take only a host name."""
        note = f"workspace {self.workspace} on node {self.node.name} of {self.node.registry}"
        return ssh_config.Block(self.workspace, self.node.name, note, (("User", self.login), *self._options))

    @property
    def editor_uri(self) -> str:
        """Return the URI for VS Code's Remote - SSH; the alias in it must be in the ssh configuration."""
        return f"vscode-remote://ssh-remote+{self.block.alias}{quote(self.directory)}"

    @property
    def _options(self) -> Iterator[Option]:
        yield from route_options(self.target)
        yield from METHODS


def login_command(
    workspace: str, node: Node, login: str, directory: str, environment: Mapping[str, str]
) -> LoginCommand:
    """Return how to log in to a workspace, and write its ssh_config block. Connects to nothing."""
    target = resolve(node)
    ensure_identity(target)
    command = LoginCommand(workspace, node, target, login, directory, environment)
    ssh_config.write(command.block)
    return command


def check_key(command: LoginCommand, authorised: Iterable[str], user: str) -> None:
    """Raise AuthenticationFailed if none of the operator's keys is among the `authorised` fingerprints."""
    fingerprints = set(authorised)
    if fingerprints & own_fingerprints(command.target):
        return
    keys = "other keys" if fingerprints else "no key at all"
    raise AuthenticationFailed(
        f"{command.login} on {command.node.name} accepts {keys}, none of yours",
        hint=f"run commands without a key: inv workspace.exec; for a shell, give user {user} one of your keys",
    )


def own_fingerprints(target: Target) -> set[str]:
    """Return the fingerprints of the operator's key files and of the keys in the ssh agent."""
    there = (path for path in target.identities if is_there(path))
    files = (name for path in there for name in (path, f"{path}.pub"))
    in_files = {_first(["ssh-keygen", "-l", "-f", name]) for name in files}
    if target.identities_only:
        return {word for word in in_files if word}
    agent = _run(["ssh-add", "-l"], {} if target.identity_agent is None else {"SSH_AUTH_SOCK": target.identity_agent})
    return {word for word in in_files if word} | {word for line in agent for word in line.split()[1:2]}


def enter(command: LoginCommand) -> NoReturn:
    """Replace this process by ssh, on this terminal."""
    if shutil.which("ssh") is None:
        raise Unsupported("there is no `ssh` on this machine", hint="apt install openssh-client")
    sys.stdout.flush()
    os.execvp("ssh", command.ssh)  # noqa: S606  the operator's own ssh, found in PATH as by a shell


def edit(command: LoginCommand, editor: str) -> None:
    """Open the workspace in an editor of this machine, which takes the settings from the ssh configuration."""
    program = shutil.which(editor)
    if program is None:
        raise Unsupported(
            f"there is no `{editor}` on this machine",
            hint="install VS Code with its Remote - SSH extension, or enter with --shell",
        )
    ssh_config.ensure_in_effect(command.block)
    subprocess.run([program, "--folder-uri", command.editor_uri], check=False, stdin=subprocess.DEVNULL)


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
