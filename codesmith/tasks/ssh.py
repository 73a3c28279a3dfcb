"""The ssh configuration of this machine: `ssh WORKSPACE.NODE.codesmith`."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Any

from invoke.context import Context

from codesmith.cli import hints, output
from codesmith.cli.task import task
from codesmith.errors import BadArgument
from codesmith.fleet import selection


@task(
    help={
        "install": "Include it in ~/.ssh/config: one line, after showing the change (default: only look).",
        "remove": "Take the line and the files away again (default: only look).",
        "print": "Print the configuration itself (default: only look).",
        "yes": "With --install or --remove, do not ask (default: ask).",
    }
)
def config(
    c: Context,
    install: bool = False,
    remove: bool = False,
    print: bool = False,  # noqa: A002
    yes: bool = False,
    file: str = "",
    json: bool = False,
) -> dict[str, Any]:
    """Show how ssh, scp, rsync and editors reach the workspaces of all nodes, or make it so with --install.

    Example: ssh.config --install
    """
    from codesmith.workspace import ssh_include
    from codesmith.workspace.ssh_config import SshConfig

    if install + remove + print > 1:
        raise BadArgument("ssh.config takes one of --install, --remove and --print")
    known = SshConfig(selection.registry(file))
    row: dict[str, Any] = {"config": str(known.path), "hosts": known.hosts, "include": ssh_include.line()}
    if print:
        known.write()
        row["text"] = known.text
        if not json:
            output.write(known.text)
            return row
    elif install or remove:
        row["changed"] = (ssh_include.install if install else ssh_include.remove)(known, yes=yes)
    else:
        row["installed"] = ssh_include.is_installed(known)
    output.show(row, json=json)
    if not (install or remove or print or row["installed"]):
        output.warn([hints.completed("not included yet: inv ssh.config --install", file=file)])
    return row
