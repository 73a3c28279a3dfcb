"""Complete the commands in a hint so that they can be pasted: program name, node and registry file."""

from __future__ import annotations

import re
import shlex
import sys

from codesmith.errors import THIS_COMMAND

COMMAND = re.compile(r"\binv ([a-z]+\.[a-z-]+)([^;`\n]*)")
# These take no `--node`: they need no node, or their node is a positional parameter.
WITHOUT_NODE = ("node.add", "node.list", "node.remove", "node.trust")


def program() -> str:
    """Return the name by which this process was started: `inv`, `codesmith`, ..."""
    folder, _, name = sys.argv[0].rpartition("/")
    # `python -m codesmith`, `python -m invoke`
    return folder.rpartition("/")[2] if name == "__main__.py" else name or "inv"


def command_name() -> str:
    """Return the program that a hint names: the installed one writes `codesmith`, since `inv` needs a tasks.py."""
    return "codesmith" if program() == "codesmith" else "inv"


def completed(hint: str, *, node: str = "", file: str = "") -> str:
    """Return `hint` with the node and the registry file added to each command that takes them and has none."""
    name = command_name()

    def complete(command: re.Match[str]) -> str:
        task, rest = command[1], command[2]
        options = ""
        if node and not task.startswith("lab.") and task not in WITHOUT_NODE and "--node" not in rest:
            options += f" --node {shlex.quote(node)}"
        if file and task != "lab.status" and "--file" not in rest:
            options += f" --file {shlex.quote(file)}"
        return f"{name} {task}{options}{rest}"

    return COMMAND.sub(complete, hint).replace(THIS_COMMAND, this_command())


def this_command() -> str:
    """Return the command line that was typed."""
    return shlex.join([program(), *sys.argv[1:]])
