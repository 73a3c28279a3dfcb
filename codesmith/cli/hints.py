"""Make the commands in a hint ones to paste: the program that was typed, the node and the registry that were meant."""

from __future__ import annotations

import re
import shlex
import sys

from codesmith.errors import THIS_COMMAND

COMMAND = re.compile(r"\binv ([a-z]+\.[a-z-]+)([^;`\n]*)")
# These take no `--node`, or name theirs as a word of its own.
WITHOUT_NODE = ("node.add", "node.list", "node.remove", "node.trust")


def program() -> str:
    """Return how this process was called: `inv`, `codesmith`, ..."""
    folder, _, name = sys.argv[0].rpartition("/")
    # `python -m codesmith`, `python -m invoke`
    return folder.rpartition("/")[2] if name == "__main__.py" else name or "inv"


def completed(hint: str, *, node: str = "", file: str = "") -> str:
    """Return `hint` with the node and the registry file in each command of ours that takes them and has none.

    From the installed program a command is one of `codesmith`: there is no tasks.py for `inv` there.
    """
    name = "codesmith" if program() == "codesmith" else "inv"

    def complete(found: re.Match[str]) -> str:
        task, rest = found[1], found[2]
        more = ""
        if node and not task.startswith("lab.") and task not in WITHOUT_NODE and "--node" not in rest:
            more += f" --node {shlex.quote(node)}"
        if file and task != "lab.status" and "--file" not in rest:
            more += f" --file {shlex.quote(file)}"
        return f"{name} {task}{more}{rest}"

    return COMMAND.sub(complete, hint).replace(THIS_COMMAND, this_command())


def this_command() -> str:
    """Return the command line that was typed."""
    return shlex.join([program(), *sys.argv[1:]])
