"""The pages of help: of the program, of a namespace, of a task."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Collection as Names
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from invoke.collection import Collection
from invoke.parser.argument import Argument

from codesmith.cli.checked_arguments import OptionalArgument, RemainderArgument, SeveralArgument
from codesmith.cli.hints import command_name, completed

WIDTH_MAX = 116
EXAMPLE = re.compile(r"^Example: (.+)\n?", re.MULTILINE)
# What a value is, by the name of its option; else by its type.
PLACEHOLDERS = {"env": "KEY=VALUE", "identity": "FILE", "file": "FILE", "known-hosts": "FILE", "label": "KEY=VALUE"}
PLACEHOLDERS |= {"node": "NODE", "ssh-key": "KEY", "stdin": "FILE", "tag": "TAG", "timeout": "SECONDS"}
KINDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", list: "TEXT"}
HELP = ("-h, --help", "Show this page.")
FIRST_STEPS = """\
First steps:
  inv node.add web1 --host web1.example.org --user ops --file nodes.yaml
  inv node.trust web1
  inv node.prepare --plan
  inv node.prepare
  inv workspace.create shop
  inv workspace.open shop --shell
"""
PROGRAM_OPTIONS = (
    ("-R, --dry", "Show what the task would do; refused by tasks that cannot."),
    ("-l, --list [NAMESPACE]", "List all tasks, or those of a namespace; --list-format is flat, nested or json."),
    ("-d, --debug", "Show what Invoke parses; CODESMITH_DEBUG=ssh,rpc shows what goes over the wire."),
    ("-f, --config FILE", "A configuration file of Invoke."),
    ("-V, --version", "Show the version."),
)


def of_program(collection: Collection) -> str:
    """Return the page of the program: first steps, namespaces, where more is, Invoke's options."""
    name = command_name()
    spaces = [(space, summary_of(inner)) for space, inner in sorted(collection.collections.items())]
    alone = [(task, first_line(body)) for task, body in sorted(collection.tasks.items())]
    more = [
        (f"{name} help NAMESPACE", "The tasks of a namespace; `codesmith workspace` alone is the same."),
        (f"{name} help TASK", "One task, as TASK --help: arguments, options, defaults, examples."),
        (f"{name} --list", "Every task with one line."),
    ]
    parts = [
        f"Usage: {name} TASK [ARGUMENTS] [--options] [-- COMMAND ...]\n",
        completed(FIRST_STEPS),
        "Namespaces:\n" + _rows(spaces),
        "Tasks without one:\n" + _rows(alone),
        "More:\n" + _rows([(left, completed(right.replace("`codesmith ", f"`{name} "))) for left, right in more]),
        "Options of Invoke, before the task:\n" + _rows(PROGRAM_OPTIONS),
    ]
    return "\n".join(parts)


def of_namespace(collection: Collection, space: str) -> str:
    """Return the page of a namespace: its tasks, each with its arguments and its line."""
    inner = collection.collections[space]
    name = command_name()
    rows = [(f"{space}.{task}", first_line(body)) for task, body in sorted(inner.tasks.items())]
    summary = textwrap.indent(textwrap.fill(summary_of(inner), _width() - 2), "  ")
    more = f"{name} help {space}.TASK shows arguments, options, defaults, examples."
    return (
        f"Usage: {name} {space}.TASK [ARGUMENTS] [--options]\n\n{summary}\n\nTasks:\n{_rows(rows)}\n{_wrapped(more)}\n"
    )


def of_list(collection: Collection) -> str:
    """Return every task with its line."""
    rows = [(task, first_line(collection[task])) for task in sorted(collection.task_names)]
    return "Tasks:\n" + _rows(rows)


Row = tuple[str, str]


@dataclass(frozen=True)
class TaskPage:
    """What the page of a task has. A row is what is typed, and what it means; `shared` are options of many tasks."""

    name: str
    usage: str
    text: str
    arguments: Sequence[Row]
    options: Sequence[Row]
    shared: Sequence[Row]
    examples: Sequence[str]


def page_of(name: str, text: str, arguments: Sequence[Argument], *, common: Names[str]) -> TaskPage:
    """Return the page of a task with this docstring; options called as one of `common` are shared ones."""
    positional = [one for one in arguments if one.positional]
    rest = [one for one in arguments if isinstance(one, RemainderArgument)]
    options = [one for one in arguments if not one.positional and one not in rest]
    own = [one for one in options if one.names[0].replace("-", "_") not in common]
    text = inspect.cleandoc(text)
    return TaskPage(
        name,
        usage=" ".join([command_name(), name, *map(_spelled, positional), "[--options]", *map(_spelled, rest)]),
        text=EXAMPLE.sub("", text).strip(),
        arguments=_option_rows([*positional, *rest]),
        options=_option_rows(own),
        shared=[*_option_rows([one for one in options if one not in own]), HELP],
        examples=[_pasteable(name, one[1]) for one in EXAMPLE.finditer(text)],
    )


def of_task(page: TaskPage) -> str:
    """Return the page of a task for a terminal; the options of many tasks come last."""
    parts = [
        f"Usage: {page.usage}\n",
        textwrap.indent(_wrapped(page.text), "  ") + "\n",
        _section("Arguments", page.arguments),
        _section("Options", page.options),
        _section("Options of many tasks", page.shared),
        "Examples:\n" + "".join(f"  {one}\n" for one in page.examples) if page.examples else "",
        completed(f"Options of Invoke go before the task: {command_name()} help\n"),
    ]
    return "\n".join(filter(None, parts))


def _option_rows(arguments: Sequence[Argument]) -> list[Row]:
    return [(_spelled(one), one.help or "") for one in arguments]


def _section(title: str, rows: Sequence[Row]) -> str:
    return f"{title}:\n{_rows(rows)}" if rows else ""


def _spelled(argument: Argument) -> str:
    """Return an argument as it is typed: NAME, [PORTS ...], --cwd TEXT, --editor code|cursor, -- COMMAND ..."""
    name = str(argument.names[0])
    if isinstance(argument, RemainderArgument):
        return "-- COMMAND ..."
    if argument.positional:
        several = isinstance(argument, SeveralArgument)
        is_needed = not several and not isinstance(argument, OptionalArgument)
        word = f"{name.upper()} ..." if several else name.upper()
        return word if is_needed else f"[{word}]"
    short = "".join(f"-{one}, " for one in argument.names[1:])
    if argument.kind is bool:
        return f"{short}--{name}"
    value = "|".join(getattr(argument, "choices", ())) or PLACEHOLDERS.get(name) or _placeholder(name, argument.kind)
    return f"{short}--{name} {value}" + (" ..." if argument.kind is list else "")


def _placeholder(name: str, kind: Any) -> str:
    return "FILE" if name.endswith(("-file", "-from")) else KINDS[kind]


def _pasteable(name: str, example: str) -> str:
    """Return an example that begins with the program, or names it in the middle."""
    return f"{command_name()} {example}" if f"{example} ".startswith(f"{name} ") else completed(example)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    """Return two columns; a word too long for the first has a line of its own."""
    column = min(max((len(left) for left, _ in rows), default=0), 28) + 2
    return "".join(line.rstrip() + "\n" for left, right in rows for line in _row(left, right, column))


def _row(left: str, right: str, column: int) -> Iterator[str]:
    lines = textwrap.wrap(right, max(30, _width() - column - 2), break_on_hyphens=False) or [""]
    if len(left) > column - 2:
        yield f"  {left}"
        left = ""
    for line in lines:
        yield f"  {left:{column}}{line}"
        left = ""


def _wrapped(text: str) -> str:
    """Return paragraphs that fit; a narrow terminal breaks the lines of a docstring anew."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(textwrap.fill(" ".join(one.split()), _width() - 2, break_on_hyphens=False) for one in paragraphs)


def _width() -> int:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return min(shutil.get_terminal_size().columns, WIDTH_MAX) if is_terminal else WIDTH_MAX


def summary_of(collection: Collection) -> str:
    """Return the first line of a namespace's module."""
    return (collection.__doc__ or "").strip().partition("\n")[0]


def first_line(task: Any) -> str:
    """Return the first line of a task's docstring, which lists show."""
    return (task.__doc__ or "").strip().partition("\n")[0]
