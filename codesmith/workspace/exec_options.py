"""The options of workspace.exec, and what several of its commands give."""

from __future__ import annotations

from collections.abc import Sequence

from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice

HELP = {
    "name": "The workspace's name; of several nodes, on each of them. Without it: every workspace (see --all).",
    "argv": "The command and its arguments; on a command line they follow `--`.",
    "cwd": "The directory to run in, relative to the workspace (default: the workspace).",
    "env": "An environment variable as KEY=VALUE; repeatable (default: none).",
    "timeout": "Seconds after which the command is ended (default: none; with --json 60).",
    "stdin": "A file for its standard input, or - for standard input, which each of several commands gets "
    "(default: standard input; of several, and with --json, none).",
    "no_stdin": "It reads nothing, as `ssh -n`: for loops that read the same standard input (default: it reads).",
    "tty": "Give it a terminal, also if this is none (default: if standard input and output are one).",
    "no_tty": "Give it no terminal: stdout and stderr stay apart (default: see --tty).",
    "label": "In every workspace with this label, as KEY=VALUE; repeatable (default: any).",
    "all": "With NAME: on every node. Without: in every workspace of the nodes that are named, or of all.",
    "jobs": "How many commands to run at once (default: 16).",
    "json": "Print exit code and output as JSON when it has ended: both ends of 1 MiB; Ctrl-C leaves it running.",
}


class ExecOptions(Choice, total=False):
    """The options of workspace.exec."""

    cwd: str | None
    env: list[str] | None
    timeout: float | None
    stdin: str | None
    no_stdin: bool
    tty: bool
    no_tty: bool
    label: list[str] | None


class Executed(list[Row]):
    """A row for each of several workspaces, in the order of nodes.yaml, then by name.

    A row has node and workspace, and how the command ended (exit_code, signal, killed_by, duration_s; with JSON its
    output, as workspace.exec of the API returns it), or error, kind and exit_code of what kept it from running.
    """

    # Of a reader that closed the pipe, as the exit code of all.
    nobody_reads = False

    @property
    def exit_code(self) -> int:
        """0 if every command has ended with 0; else what the others ended with, 1 if they differ."""
        codes = set(map(code_of, self)) - {0}
        return 141 if self.nobody_reads else codes.pop() if len(codes) == 1 else int(bool(codes))


def code_of(row: Row) -> int:
    """Return the exit code that a row stands for; 1 for an end that nobody knows."""
    code = row.get("exit_code")
    return 1 if code is None else int(code)


def failed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of commands that have not ended with 0."""
    return [row for row in rows if code_of(row)]
