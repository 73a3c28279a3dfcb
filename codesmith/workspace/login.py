"""Enter a workspace: by ssh or in an editor, both by its alias and through the node's endpoint."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

from codesmith.cli import output
from codesmith.errors import CodeSmithError, Unsupported
from codesmith.fleet import one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.nodes.registry import Node
from codesmith.workspace import ssh_config
from codesmith.workspace.ssh_config import SshConfig, alias_of

# Editors that are VS Code, with its option for a folder on another machine.
VS_CODE = ("code", "cursor", "windsurf")
PRINT = "print"
COLUMNS = ("name", "user", "path", "opened_at", "command")
EDITORS = (*VS_CODE, "zed", PRINT)


@dataclass(frozen=True)
class Entrance:
    """How to enter one workspace of one node."""

    workspace: str
    node: Node
    config: SshConfig
    directory: str
    # Whether `ssh ALIAS` alone leads in.
    is_installed: bool

    @property
    def alias(self) -> str:
        """The host name for ssh and for editors."""
        return alias_of(self.workspace, self.node)

    @property
    def ssh(self) -> tuple[str, ...]:
        """The command that opens a shell in the workspace."""
        return ("ssh", self.alias) if self.is_installed else ("ssh", "-F", str(self.config.path), self.alias)

    def editor_uri(self, editor: str) -> str:
        """Return the URI of the workspace for an editor."""
        if editor == "zed":
            return f"ssh://{self.alias}{quote(self.directory)}"
        return f"vscode-remote://ssh-remote+{self.alias}{quote(self.directory)}"


def run(name: str, where: OneNode, *, shell: bool, editor: str | None) -> dict[str, Any]:
    """Do what the task workspace.open does: show how to enter, or enter."""
    with one_node.connect(where) as client:
        opened = client.workspace.open(name=name)
    config = SshConfig(selection.registry(where.get("file") or ""))
    entrance = prepare(name, config, selection.one(where), opened.login.directory)
    if shell:
        enter(entrance)
    if editor:
        edit(entrance, editor)
    uri = entrance.editor_uri(editor or "code")
    row = {**opened.to_dict(), "command": shlex.join(entrance.ssh), "editor_uri": uri}
    if editor == PRINT and not where.get("json", False):
        output.write(f"{uri}\n")
    else:
        one_node.show(where, row, COLUMNS)
    return row


def prepare(workspace: str, config: SshConfig, node: Node, directory: str) -> Entrance:
    """Write the ssh configuration and return how to enter a workspace. Connects to nothing."""
    config.write()
    return Entrance(workspace, node, config, directory, ssh_config.is_in_effect(config, node))


def enter(entrance: Entrance) -> NoReturn:
    """Replace this process by ssh, on this terminal."""
    if shutil.which("ssh") is None:
        raise Unsupported("there is no `ssh` on this machine", hint="apt install openssh-client")
    sys.stdout.flush()
    os.execvp("ssh", entrance.ssh)  # noqa: S606  the operator's own ssh, found in PATH as by a shell


def edit(entrance: Entrance, editor: str) -> None:
    """Open the workspace in an editor of this machine, which takes the settings from the ssh configuration."""
    if editor == PRINT:
        return
    program = shutil.which(editor)
    if program is None:
        hint = "install it with its extension for SSH, or enter with --shell"
        raise Unsupported(f"there is no `{editor}` on this machine", hint=hint)
    if not entrance.is_installed:
        problem = f"an editor knows {entrance.alias} only from your ssh configuration, which does not include it"
        raise CodeSmithError(problem, hint="inv ssh.config --install")
    uri = entrance.editor_uri(editor)
    words = [uri] if editor == "zed" else ["--folder-uri", uri]
    subprocess.run([program, *words], check=False, stdin=subprocess.DEVNULL)
