"""The manual: codesmith(1), and a page for each namespace with all its tasks, of the same tables as the pages of help.

`make man` writes the pages to `man/`, and the wheel has them in `share/man/man1`, where man finds them beside the `bin`
of a virtual environment that is on PATH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from invoke.collection import Collection

from codesmith.cli import help_pages
from codesmith.cli.task import Task

PROGRAM = "codesmith"
ABOUT = """\
Safe places to work, for people and AI coding agents, on Linux servers that answer SSH. A workspace is a directory with
a Unix user of its own, limits and an audit record. A task is a noun and a verb, as `workspace.create`; objects come
behind it, everything else is an option. In a checkout `inv` runs the same tasks.

Data goes to standard output, the rest to standard error. A terminal gets a table, a pipe tab-separated lines, `--json`
the objects; an error says what and why, and the next command."""
STATUS = (
    ("0", "Done, or nothing to do."),
    ("1", "An error."),
    ("2", "Cancelled: the answer was no, or Ctrl-C."),
    ("3", "No such name."),
    ("4", "Authentication or the host key."),
    ("5", "The node, or its agent, cannot be reached."),
    ("6", "The agent refused."),
    ("7", "A plan is not empty (`--plan`)."),
    ("124", "`job.wait --timeout` ran out."),
)
ENVIRONMENT = (
    ("CODESMITH_NODES", "The registry file (default: `nodes.yaml` in the current directory or above it)."),
    ("CODESMITH_NODE", "The node that a task works on (default: `default:` of nodes.yaml, then the only node)."),
    ("CODESMITH_HOME", "The directory of state and local sockets."),
    ("CODESMITH_ENDPOINT", "The address of a scoped endpoint; no nodes.yaml is read then."),
    ("CODESMITH_TOKEN_FILE", "The file with the token for it."),
    ("CODESMITH_REQUEST_ID", "Repeats a call whose answer got lost, so that nothing is done twice."),
    ("CODESMITH_DEBUG", "`ssh`, `rpc` or both: what goes over the wire, on standard error."),
    ("CODESMITH_LAB_HOME", "Where lab nodes live."),
    ("NO_COLOR", "No colours."),
)
FILES = (
    ("nodes.yaml", "Which nodes there are."),
    ("known_hosts", "Beside it: the pinned host keys."),
    ("~/.local/state/codesmith", "Known nodes, keys, tokens, logs."),
    ("$XDG_RUNTIME_DIR/codesmith", "The local sockets."),
)
ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def pages(collection: Collection, version: str) -> dict[str, str]:
    """Return the pages by the name of their file; no page changes but with the tasks and the version."""
    spaces = sorted(collection.collections.items())
    found = {f"{PROGRAM}.1": _of_program(collection, version)}
    return found | {f"{PROGRAM}-{name}.1": _of_namespace(name, inner, version) for name, inner in spaces}


def _of_program(collection: Collection, version: str) -> str:
    spaces = [
        (f"{PROGRAM}-{name}(1)", help_pages.summary_of(inner)) for name, inner in sorted(collection.collections.items())
    ]
    return _page(
        PROGRAM,
        "safe places to work, over SSH",
        version,
        [
            (
                "SYNOPSIS",
                [f".B {PROGRAM}\n.I TASK\n[ARGUMENTS] [{_roff('--options')}] [{_roff('--')} COMMAND ...]\n"],
            ),
            ("DESCRIPTION", [_paragraphs(ABOUT)]),
            ("FIRST STEPS", [_example([line.strip() for line in help_pages.FIRST_STEPS.splitlines()[1:]])]),
            ("NAMESPACES", _rows(spaces)),
            ("TASKS", [part for task in _tasks(collection) for part in _task(task)]),
            ("OPTIONS OF MANY TASKS", _rows(_shared(_tasks(collection)))),
            ("OPTIONS OF INVOKE", ["They come before the task.\n", *_rows(help_pages.PROGRAM_OPTIONS)]),
            ("EXIT STATUS", _rows(STATUS)),
            ("ENVIRONMENT", _rows(ENVIRONMENT)),
            ("FILES", _rows(FILES)),
            ("SEE ALSO", [_see(name for name, _ in spaces)]),
        ],
    )


def _of_namespace(space: str, inner: Collection, version: str) -> str:
    tasks = _tasks(inner)
    summary = help_pages.summary_of(inner).rstrip(".")
    synopsis = [f".B {PROGRAM}\n.RI {_roff(space)}. TASK\n[ARGUMENTS] [{_roff('--options')}]\n"]
    sections = [
        ("SYNOPSIS", synopsis),
        ("TASKS", [part for task in tasks for part in _task(task)]),
        ("OPTIONS OF MANY TASKS", _rows(_shared(tasks))),
        ("SEE ALSO", [_see([f"{PROGRAM}(1)"])]),
    ]
    return _page(f"{PROGRAM}-{space}", summary, version, sections)


def _tasks(collection: Collection) -> list[help_pages.TaskPage]:
    """Return the pages of a collection's own tasks, which must be tasks of CodeSmith, in their order."""
    return [task.page() for _, task in sorted(collection.tasks.items()) if isinstance(task, Task)]


def _task(page: help_pages.TaskPage) -> Iterator[str]:
    yield f".SS {_roff(page.usage.partition(' ')[2])}\n"
    yield _paragraphs(page.text)
    yield from _rows([*page.arguments, *page.options])
    if page.examples:
        yield _example(page.examples)


def _shared(tasks: Sequence[help_pages.TaskPage]) -> list[help_pages.Row]:
    """Return the options of many tasks that these have, each once; one may have another meaning elsewhere."""
    rows: dict[str, list[str]] = {}
    for name, meaning in (row for page in tasks for row in page.shared):
        if meaning not in rows.setdefault(name, []):
            rows[name].append(meaning)
    return sorted((name, " Or: ".join(meanings)) for name, meanings in rows.items())


def _page(name: str, summary: str, version: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = f'.TH "{_roff(name.upper())}" 1 "" "CodeSmith {version}" "CodeSmith"\n.nh\n.ad l\n'
    body = f".SH NAME\n{_roff(name)} \\- {_roff(summary[0].lower() + summary[1:])}\n"
    return head + body + "".join(f".SH {title}\n{''.join(parts)}" for title, parts in sections if parts)


def _rows(rows: Sequence[help_pages.Row]) -> list[str]:
    return [f".TP\n.B {_roff(left)}\n{_line(right)}" for left, right in rows]


def _paragraphs(text: str) -> str:
    return "".join(f".PP\n{_line(' '.join(one.split()))}" for one in re.split(r"\n\s*\n", text))


def _example(commands: Sequence[str]) -> str:
    return f".PP\n.RS 4\n.nf\n{''.join(map(_line, commands))}.fi\n.RE\n"


def _see(names: Sequence[str] | Iterator[str]) -> str:
    return ",\n".join(f".BR {_roff(name.partition('(')[0])} (1)" for name in names).replace("(1),", "(1),") + "\n"


def _line(text: str) -> str:
    """Return a line of text: what has backticks in bold, commands as the installed program has them."""
    text = re.sub(r"\binv (?=[a-z_]+[. ])", f"{PROGRAM} ", text)
    parts = re.split(r"`([^`]+)`", text)
    line = "".join(rf"\fB{_roff(part)}\fR" if at % 2 else _roff(part) for at, part in enumerate(parts))
    return (rf"\&{line}" if line.startswith(".") else line) + "\n"


def _roff(text: str) -> str:
    """Return text as roff shows it unchanged."""
    return "".join(ESCAPES.get(one, one if one.isascii() else rf"\[u{ord(one):04X}]") for one in text)
