"""The `codesmith` program: Invoke's, with a next step in every error about the command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from codesmith import __version__
from codesmith.cli import output
from codesmith.cli.checked_arguments import OptionalArgument, SeveralArgument
from codesmith.cli.namespace import Asked
from codesmith.cli.task import Task
from codesmith.cli.usage_errors import as_asked, meaningless, rewritten, unexpected_word, unknown_task, usage_error
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


def adopt(program: Program) -> None:
    """Give Invoke's own program, `inv`, CodeSmith's errors about the command line; called while it loads tasks.py."""
    output.ensure_streams()
    parse_tasks, parse_cleanup = program.parse_tasks, program.parse_cleanup
    program.parse_tasks = lambda: explain(program, parse_tasks)  # type: ignore[method-assign]
    program.parse_cleanup = lambda: show(program, parse_cleanup)  # type: ignore[method-assign]


def show(program: Program, parse_cleanup: Callable[[], None]) -> None:
    """Show the page of help that is asked for, if one is; else let Invoke print lists, versions and completions."""
    asked = program.args.help.value
    if asked:
        write_page(program, () if asked is True else (str(asked),))
    if program.args.list.value and not program.args["list-depth"].value and program.args["list-format"].value == "flat":
        space = program.args.list.value
        write_list(program) if space is True else write_page(program, (str(space),))
    if not program.tasks and not program.collection.default and not takes_over(program):
        write_page(program, ())
    with output.writing(sys.stdout), errors_that_name_their_task():
        parse_cleanup()
        return
    raise Exit(code=0)


def takes_over(program: Program) -> bool:
    """Tell whether Invoke itself does something without a task."""
    return bool(program.args.list.value or program.args.complete.value)


def write(page: str) -> NoReturn:
    """Write a page, and end."""
    output.write(page)
    raise Exit(code=0)


def write_list(program: Program) -> NoReturn:
    """Write every task with its line, and end."""
    from codesmith.cli import help_pages

    write(help_pages.of_list(program.collection))


def write_page(program: Program, words: Sequence[str]) -> NoReturn:
    """Write the page of what the words name: nothing, a namespace, or a task (`workspace exec` too); and end."""
    from codesmith.cli import help_pages

    collection, word = program.collection, ".".join(words)
    if not word:
        write(help_pages.of_program(collection))
    if word in collection.collections:
        write(help_pages.of_namespace(collection, word))
    if word not in collection.task_names:
        raise unknown_task(word, (), name_of(program), collection)
    task = collection[word]
    if not isinstance(task, Task):  # of somebody's own tasks.py
        program.print_task_help(word)
        raise Exit(code=0)
    task.print_help()
    raise Exit(code=0)


def explain(program: Program, parse_tasks: Callable[[], None]) -> None:
    """Parse the tasks of a command line; errors get CodeSmith's form, with --json that of programs."""
    try:
        parse(program, parse_tasks)
    except ParseError as error:
        raise as_asked(error, program.argv[1:]) from None


def parse(program: Program, parse_tasks: Callable[[], None]) -> None:
    """Parse the tasks of a command line; errors get a next step."""
    name, words = name_of(program), program.core.unparsed
    show_asked(program, words)
    try:
        with one_task_only(program, words), further_words():
            parse_tasks()
        if len(program.tasks) > 1:  # its own name again
            raise unexpected_word(words[0], words[0], name, program.collection)
        refuse_words_behind_dashes(program, name)
    except ParseError as error:
        raise rewritten(error, name, program.argv[1:], program.collection) from None
    if problem := meaningless(program.core[0], name) if is_ours(program) else None:
        raise problem


def show_asked(program: Program, words: Sequence[str]) -> None:
    """Write the page that `help`, `help workspace.exec`, `workspace` or `workspace --help` asks for; else nothing."""
    first, rest = words[0] if words else "", words[1:]
    if first == "help" and first not in program.collection.task_names:
        write_page(program, rest)
    if first in program.collection.collections and all(word in ("--help", "-h") for word in rest):
        write_page(program, (first,))


def is_ours(program: Program) -> bool:
    """Tell whether a command line is for a task of CodeSmith, or for none."""
    return all(isinstance(program.collection[context.name], Task) for context in program.tasks)


def name_of(program: Program) -> str:
    """Return how a program is called, for a hint."""
    return program.binary.partition("[")[0]


@contextlib.contextmanager
def one_task_only(program: Program, words: Sequence[str]) -> Iterator[None]:
    """Let the parser know the first task alone: Invoke reads the arguments of all, and runs all of a command line.

    A second task is a word that the first does not take, before its `--help` is shown and before anything runs.
    """
    whole = program.collection
    program.collection = Asked(whole, words[0] if words else "")
    try:
        yield
    finally:
        program.collection = whole


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


@contextlib.contextmanager
def errors_that_name_their_task() -> Iterator[None]:
    """Let an error of an argument say whose it is: Invoke completes a line that is no whole one by its error."""
    original = ParseMachine.handle

    def handle(machine: ParseMachine, token: str) -> None:
        try:
            original(machine, token)
        except ParseError as error:
            error.context = error.context or machine.context
            raise

    ParseMachine.handle = handle  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ParseMachine.handle = original  # type: ignore[method-assign]


def refuse_words_behind_dashes(program: Program, name: str) -> None:
    """Raise ParseError for words behind `--` that no task of the command line takes; Invoke would drop them.

    With --complete they are the words that its own completion asks about.
    """
    if program.args.complete.value:
        return
    words, tasks = program.core.remainder, [context.name for context in program.tasks]
    if not words or any(getattr(program.collection[task], "remainder", "") for task in tasks):
        return
    task = next(iter(tasks), "")
    hint = f"{name} {task} --help" if task else f"{name} help"
    raise usage_error(f"{task or name} takes nothing behind --, not {words!r}", hint)
