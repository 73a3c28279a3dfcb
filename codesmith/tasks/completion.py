"""Completion of command lines."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Any

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.errors import BadArgument


@task(
    help={
        "shell": "bash, zsh or fish (default: the shell of this terminal).",
        "install": "Keep the script, and load it at each start of the shell: one line, after showing the change.",
        "remove": "Take the script and the line away again.",
        "yes": "With --install or --remove, do not ask.",
    },
    several="shell",
)
def completion(
    c: Context,
    shell: list[str] | None = None,
    install: bool = False,
    remove: bool = False,
    yes: bool = False,
    json: bool = False,
) -> dict[str, Any]:
    """Print the script that completes tasks, options, nodes, workspaces, users, jobs and files at TAB.

    Example: completion bash --install
    """
    from codesmith.cli.text_edit import Edit, read
    from codesmith.completion import scripts
    from codesmith.paths import ensure_private

    name = (shell or [""])[0] or scripts.own_shell()
    if name not in scripts.SHELLS or len(shell or []) > 1:
        raise BadArgument(f"completion takes one of {', '.join(scripts.SHELLS)}, not {' '.join(shell or [])!r}")
    if install and remove:
        raise BadArgument("completion takes one of --install and --remove")
    place, file = scripts.place(name), scripts.start_file(name)
    row: dict[str, Any] = {"shell": name, "script": str(place), "file": str(file)}
    if not install and not remove:
        row["text"] = scripts.script(name)
        if json:
            output.show(row, json=True)
        else:
            output.write(row["text"])
        return row
    before = read(file)
    others = "".join(one for one in before.splitlines(keepends=True) if scripts.MARK not in one)
    end = "" if not others or others.endswith("\n") else "\n"
    edit = Edit(file, before, f"{others}{end}{scripts.line(name)}\n" if install else others)
    if edit.before != edit.after:
        edit.apply_if_wanted(yes=yes)
    if install:
        ensure_private(place.parent)
        place.write_text(scripts.script(name), encoding="utf-8")
    else:
        place.unlink(missing_ok=True)
    row["changed"] = edit.before != edit.after
    output.show(row, json=json)
    if install:
        output.say(f"note: for shells that run already: source {place}")
    return row
