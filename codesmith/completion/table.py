"""What can be typed: each task with its options and positional parameters, as plain data.

`python -m codesmith.tasks` writes it to table.json. A shell that completes a word reads the file: to import the tasks
would take three times as long as it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invoke.collection import Collection

    from codesmith.cli.task import Task

TARGET = Path(__file__).with_name("table.json")
# What a parameter names, by its own name; the rest depends on the task.
KINDS = {
    "node": "node", "tag": "tag", "workspace": "workspace", "user": "user", "job": "job",
    "template": "template",
}  # fmt: skip
# A parameter `name`, by the namespace of its task.
NAMES = {
    "workspace": "workspace",
    "user": "user",
    "node": "node",
    "repo": "repo",
    "lab": "node",
    "template": "template",
}
# Tasks whose `name` is a new one.
MAKING = ("workspace.create", "user.create", "node.add", "repo.init")
# Options that take a file of this machine.
FILES = ("file", "identity", "ssh-key", "stdin", "known-hosts", "from", "out", "write", "socket")
# Parameters that are paths in a workspace, of the tasks of these namespaces.
REMOTE = ("path", "new-path", "cwd")


def build(root: Collection) -> dict[str, Any]:
    """Return the table of a collection: by full name its summary, positional parameters in order, options."""
    return {name: _entry(task) for name, task in sorted(_tasks(root))}


def _tasks(collection: Any) -> Iterator[tuple[str, Task[Any, Any]]]:
    for task in collection.tasks.values():
        yield task.full_name, task
    for inner in collection.collections.values():
        yield from _tasks(inner)


def _entry(task: Task[Any, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"help": (task.__doc__ or "").partition("\n")[0], "positional": [], "options": {}}
    for argument in task.get_arguments():
        name = argument.names[0]
        one: dict[str, Any] = {"name": name, "kind": _kind(task.full_name, name), "help": argument.help or ""}
        choices = getattr(argument, "choices", ())
        if choices:
            one["choices"] = list(choices)
        if argument.positional:
            entry["positional"].append({**one, "several": name == task.several.strip("_").replace("_", "-")})
        elif name != task.remainder:
            entry["options"][f"--{name}"] = {**one, "value": argument.kind is not bool}
    return entry


def _kind(task: str, name: str) -> str:
    if name == "name":
        return "" if task in MAKING else NAMES.get(task.partition(".")[0], "")
    if name == "id":
        return "job" if task.startswith("job.") else ""
    if name in FILES or name.endswith(("-file", "-from")):
        return "file"
    if task == "workspace.copy" and name in ("source", "destination"):
        return "place"
    if name in REMOTE and task.startswith(("file.", "job.", "workspace.")):
        return "path"
    return KINDS.get(name, "")
