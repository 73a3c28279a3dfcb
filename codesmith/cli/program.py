"""The `codesmith` program: Invoke's, with a next step in every error about the command line."""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from codesmith import __version__
from codesmith.cli import output
from codesmith.cli.task import OptionalArgument, SeveralArgument
from codesmith.errors import CodeSmithError


class CodeSmith(Program):
    """Invoke's program with the tasks of `namespace` built in."""

    def __init__(self, namespace: Collection) -> None:
        super().__init__(
            version=__version__,
            namespace=namespace,
            name="CodeSmith",
            binary="codesmith",
            binary_names=["codesmith"],
        )

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse the program's own options; keep bytecode files, which Invoke forbids by default."""
        super().parse_core(argv)
        sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

    def create_config(self) -> None:
        """Read Invoke's configuration files; raise CodeSmithError for one that cannot be read."""
        try:
            super().create_config()
        except OSError as error:
            raise CodeSmithError(f"cannot read {error.filename}: {error.strerror}", hint="ls -ld ~") from error

    def parse_tasks(self) -> None:
        """Parse the tasks; errors get CodeSmith's form and a next step."""
        explain(self, super().parse_tasks)

    def parse_cleanup(self) -> None:
        """Show lists and help; a reader that closes the pipe early is no error."""
        show(self, super().parse_cleanup)

    def print_task_help(self, name: str) -> None:
        """Print the help of a task, for `-h TASK`."""
        task_help(self, name)


def adopt(program: Program) -> None:
    """Give Invoke's own program, `inv`, CodeSmith's errors about the command line; called while it loads tasks.py."""
    output.ensure_streams()
    parse_tasks, parse_cleanup = program.parse_tasks, program.parse_cleanup
    program.parse_tasks = lambda: explain(program, parse_tasks)  # type: ignore[method-assign]
    program.print_task_help = lambda name: task_help(program, name)  # type: ignore[method-assign]
    program.parse_cleanup = lambda: show(program, parse_cleanup)  # type: ignore[method-assign]


def task_help(program: Program, name: str) -> None:
    """Print the help of a task, the page that TASK --help shows."""
    program.collection[name].print_help()


def list_namespace(program: Program, name: str) -> None:
    """Print the tasks of a namespace, as `--list NAME` does."""
    program.list_root, program.list_format, program.list_depth = name, "flat", 0
    program.scoped_collection = program.collection.subcollection_from_path(name)
    program.list_tasks()


def show(program: Program, parse_cleanup: Callable[[], None]) -> None:
    """Let Invoke print its lists and help; a reader that closes the pipe early is no error."""
    try:
        with output.writing(sys.stdout):
            parse_cleanup()
            return
    except ParseError as error:
        raise rewritten(error, name_of(program), program.argv[1:], program.collection) from None
    except Exit:
        with output.writing(sys.stdout):
            sys.stdout.flush()
        raise
    raise Exit(code=0)


def explain(program: Program, parse_tasks: Callable[[], None]) -> None:
    """Parse the tasks of a command line; errors get CodeSmith's form and a next step."""
    name = name_of(program)
    try:
        with one_task_only(), further_words():
            parse_tasks()
            refuse_words_behind_dashes(program, name)
    except SecondTask as error:
        raise unexpected_word(error.first, error.second, name, program.collection) from None
    except ParseError as error:
        if program.argv[1:] == program.argv[-1:] and program.argv[-1] in program.collection.collections:
            show(program, lambda: list_namespace(program, program.argv[-1]))
            raise Exit(code=0) from None
        raise rewritten(error, name, program.argv[1:], program.collection) from None


def name_of(program: Program) -> str:
    """Return how a program is called, for a hint."""
    return program.binary.partition("[")[0]


class SecondTask(Exception):
    """A command line names a second task where the first takes no argument."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{second} behind {first}")
        self.first, self.second = first, second


@contextlib.contextmanager
def one_task_only() -> Iterator[None]:
    """Raise SecondTask where the parser would go on to a second task: Invoke runs all tasks of a command line.

    This is checked during parsing: afterwards the second task's `--help` would already have been shown.
    """
    original = ParseMachine.switch_to_context

    def switch_to_context(machine: ParseMachine, name: str) -> None:
        first = machine.context
        if first is not None and first is not machine.initial:
            raise SecondTask(str(first.name), name)
        original(machine, name)

    ParseMachine.switch_to_context = switch_to_context  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ParseMachine.switch_to_context = original  # type: ignore[method-assign]


@contextlib.contextmanager
def further_words() -> Iterator[None]:
    """Let a SeveralArgument take words until the command line ends: to the parser it is never complete before."""
    original = ParseMachine.complete_context

    def complete_context(machine: ParseMachine) -> None:
        for argument in machine.context.positional_args if machine.context else ():
            if isinstance(argument, (OptionalArgument, SeveralArgument)):
                argument.is_complete = True
        original(machine)

    ParseMachine.complete_context = complete_context  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ParseMachine.complete_context = original  # type: ignore[method-assign]


def refuse_words_behind_dashes(program: Program, name: str) -> None:
    """Raise ParseError for words behind `--` that no task of the command line takes; Invoke would drop them."""
    words, tasks = program.core.remainder, [context.name for context in program.tasks]
    if not words or any(getattr(program.collection[task], "remainder", "") for task in tasks):
        return
    task = next(iter(tasks), "")
    hint = f"{name} {task} --help" if task else f"{name} --list"
    raise ParseError(f"error: {task or name} takes nothing behind --, not {words!r}\nhint: {hint}")


def rewritten(error: ParseError, name: str, words: list[str], collection: Collection) -> ParseError:
    """Return Invoke's error in CodeSmith's form, with a next step for the program called `name`."""
    tasks = sorted(collection.task_names)
    text = str(error)
    if text.startswith("error:"):
        return error
    if not text.startswith("No idea what "):
        # A name may look like a task: a workspace may be called demo.
        named = next((task for task in words if task in tasks), "")
        return ParseError(f"error: {plain(text)}" + (f"\nhint: {name} {named} --help" if named else ""))
    word = text.removeprefix("No idea what ").removesuffix(" is!").strip("'\"")
    before = [task for task in words[: words.index(word)] if task in tasks] if word in words else []
    if before:
        # A name may look like a task: `inv workspace.exec demo ls` is about the first.
        return unexpected_word(before[0], word, name, collection)
    close = difflib.get_close_matches(word, tasks, 1)
    hint = f"did you mean: {name} {close[0]}" if close else f"{name} --list"
    return ParseError(f"error: no task {word!r}\nhint: {hint}")


def plain(text: str) -> str:
    """Return what Invoke says of something that is missing in the words of the help."""
    if missing := re.fullmatch(r"'(.+)' did not receive required positional arguments: (.+)", text):
        names = [name.upper() for name in re.findall(r"'(.+?)'", missing[2])]
        return f"{missing[1]} needs {' and '.join(names)}"
    if missing := re.fullmatch(r"Flag (\S+) needed value and was not given one!", text):
        return f"{missing[1]} needs a value"
    return text


def unexpected_word(task: str, word: str, name: str, collection: Collection) -> ParseError:
    """Return the error about a word after a task that takes no further words."""
    hint = f"see what it takes: {name} {task} --help"
    if task == "workspace.exec" and not word.startswith("-"):
        hint = f"put the command behind --: {name} workspace.exec NAME -- {word}"
    elif word in collection.task_names and "." in word:
        hint = f"run it by itself: {name} {word}"
    elif takes_nodes(collection[task]) and not word.startswith("-"):
        hint = f"name a node with --node: {name} {task} --node {word}"
    return ParseError(f"error: {task} does not take {word!r}\nhint: {hint}")


def takes_nodes(task: Any) -> bool:
    """Tell whether a word after the task is probably a node: it takes --node, and no positional parameter."""
    arguments = task.get_arguments()
    return any(one.name == "node" for one in arguments) and not any(one.positional for one in arguments)
