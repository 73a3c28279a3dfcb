"""The `codesmith` program: the tasks of tasks.py, from any folder, with a next step for what is not a task."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable

from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.program import Program

from codesmith import __version__
from codesmith.tasks import root


class CodeSmith(Program):
    """Invoke's program with our tasks built in."""

    def __init__(self, namespace: Collection | None = None) -> None:
        super().__init__(
            version=__version__,
            namespace=namespace or root(),
            name="CodeSmith",
            binary="codesmith",
            binary_names=["codesmith"],
        )

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse the program's own options; keep bytecode files, which Invoke forbids by default."""
        super().parse_core(argv)
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

    def parse_tasks(self) -> None:
        """Say what a word that is no task could have been."""
        explain(self, super().parse_tasks)


def adopt(program: Program) -> None:
    """Give Invoke's own program, `inv`, our words for what it cannot parse; called while it loads tasks.py."""
    parse_tasks = program.parse_tasks
    program.parse_tasks = lambda: explain(program, parse_tasks)  # type: ignore[method-assign]


def explain(program: Program, parse_tasks: Callable[[], None]) -> None:
    """Parse the tasks of a command line; a complaint comes in our form, with a next step."""
    try:
        parse_tasks()
    except ParseError as error:
        tasks = sorted(program.collection.task_names)
        raise explained(error, program.binary.partition("[")[0], program.argv[1:], tasks) from None


def explained(error: ParseError, name: str, words: list[str], tasks: list[str]) -> ParseError:
    """Return Invoke's complaint in our form, with a next step for the program called `name`."""
    text = str(error)
    if text.startswith("error:"):
        return error
    if not text.startswith("No idea what "):
        named = [task for task in words if task in tasks]
        return ParseError(f"error: {text}" + (f"\nhint: {name} {named[-1]} --help" if named else ""))
    word = text.removeprefix("No idea what ").removesuffix(" is!").strip("'\"")
    before = [task for task in words[: words.index(word)] if task in tasks] if word in words else []
    if before:
        # A name may look like a task: `inv workspace.exec demo ls` is about the first.
        task = before[0]
        hint = f"see what it takes: {name} {task} --help"
        if task == "workspace.exec" and not word.startswith("-"):
            hint = f"put the command behind --: {name} workspace.exec NAME -- {word}"
        elif task.startswith(("node.", "lab.")) and not word.startswith("-"):
            hint = f"name a node with --node: {name} {task} --node {word}"
        return ParseError(f"error: {task} does not take {word!r}\nhint: {hint}")
    close = difflib.get_close_matches(word, tasks, 1)
    hint = f"did you mean: {name} {close[0]}" if close else f"{name} --list"
    return ParseError(f"error: no task {word!r}\nhint: {hint}")


def main() -> None:
    """Run the command line in sys.argv."""
    CodeSmith().run()
