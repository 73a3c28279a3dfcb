"""The `codesmith` program: the tasks of tasks.py, from any folder, with a next step for what is not a task."""

from __future__ import annotations

import difflib
import sys

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
        try:
            super().parse_tasks()
        except ParseError as error:
            raise explained(error, self.argv[1:], sorted(self.collection.task_names)) from None


def explained(error: ParseError, words: list[str], tasks: list[str]) -> ParseError:
    """Return Invoke's complaint in our form, with a next step."""
    text = str(error)
    if text.startswith("error:"):
        return error
    if not text.startswith("No idea what "):
        named = [task for task in words if task in tasks]
        return ParseError(f"error: {text}" + (f"\nhint: codesmith {named[-1]} --help" if named else ""))
    word = text.removeprefix("No idea what ").removesuffix(" is!").strip("'\"")
    before = [task for task in words[: words.index(word)] if task in tasks] if word in words else []
    if before:
        hint = f"see what it takes: codesmith {before[-1]} --help"
        if before[-1].startswith("node."):
            hint = f"name a node with --node: codesmith {before[-1]} --node {word}"
        return ParseError(f"error: {before[-1]} does not take {word!r}\nhint: {hint}")
    close = difflib.get_close_matches(word, tasks, 1)
    hint = f"did you mean: codesmith {close[0]}" if close else "codesmith --list"
    return ParseError(f"error: no task {word!r}\nhint: {hint}")


def main() -> None:
    """Run the command line in sys.argv."""
    CodeSmith().run()
