"""The work of the task workspace.open: how to enter a workspace, or entering it."""

from __future__ import annotations

import shlex
from typing import Any

from codesmith.cli import output
from codesmith.fleet import one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.workspace import login
from codesmith.workspace.ssh_config import SshConfig

COLUMNS = ("name", "user", "path", "opened_at", "command")


def run(where: OneNode, name: str, editor: str | None, *, shell: bool) -> dict[str, Any]:
    """Show how to enter a workspace and return that; with `shell` this process becomes ssh."""
    with one_node.connect(where) as client:
        opened = client.workspace.open(name=name)
    config = SshConfig(selection.registry(where.get("file") or ""))
    entrance = login.prepare(name, config, selection.one(where), opened.login.directory)
    if shell:
        login.enter(entrance)
    if editor:
        login.edit(entrance, editor)
    uri = entrance.editor_uri(editor or "code")
    row = {**opened.to_dict(), "command": shlex.join(entrance.ssh), "editor_uri": uri}
    if editor == login.PRINT and not where.get("json", False):
        output.write(f"{uri}\n")
    else:
        one_node.show(where, row, COLUMNS)
    return row
