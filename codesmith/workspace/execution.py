"""workspace.exec in one workspace: the command has the standard streams of this process, or its output is JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from codesmith.cli import arguments, output
from codesmith.cli.hints import completed
from codesmith.errors import BadArgument, CodeSmithError
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import Execution
from codesmith.sdk.ended import Ended
from codesmith.workspace import console, denied_hosts
from codesmith.workspace.console import Command
from codesmith.workspace.exec_options import ExecOptions

# The exit code of a program that is not there; what a shell would have understood.
NOT_FOUND, OF_A_SHELL = 127, frozenset(" |&;<>*$")


def parse_options(name: str | None, argv: Sequence[str] | None, options: ExecOptions) -> tuple[Command, Streams]:
    """Return the command that the options describe, and its streams; CodeSmithError without a command."""
    if not argv or not argv[0].strip():
        raise CodeSmithError("no command to run", hint=f"inv workspace.exec {name or '--all'} -- git --version")
    variables = arguments.parse_pairs(options.get("env") or [], "--env")
    command = Command(name or "", argv, options.get("cwd"), variables, options.get("timeout"))
    no_stdin, tty, no_tty = options.get("no_stdin", False), options.get("tty", False), options.get("no_tty", False)
    return command, Streams(options.get("stdin"), no_stdin, tty, no_tty)


@dataclass(frozen=True)
class Streams:
    """What a command reads, and whether it gets a terminal, as the options of the command line say it.

    `stdin` is the path of a file, - for standard input; None for what is usual.
    """

    stdin: str | None = None
    no_stdin: bool = False
    tty: bool = False
    no_tty: bool = False


def run(where: OneNode, command: Command, streams: Streams) -> Execution | Ended:
    """Run a command in one workspace; return how it ended, with `json` its output too."""
    if where.get("json", False):
        return _run_for_json(where, command, streams)
    with console.opened(streams.stdin, none=streams.no_stdin) as source, one_node.connect(where) as client:
        is_usual = streams.stdin is None and not streams.no_stdin
        terminal = console.wanted_tty(tty=streams.tty, no_tty=streams.no_tty, by_default=is_usual)
        ended = console.execute(client, command, source, terminal)
        denied_hosts.say_of_command(client, command.workspace, command.argv, ended.exit_code)
    _say_no_shell(command, ended.exit_code, where)
    return ended


def _run_for_json(where: OneNode, command: Command, streams: Streams) -> Execution:
    if streams.tty:
        raise BadArgument("--json and --tty exclude each other")
    given = arguments.read_input(streams.stdin)
    with one_node.connect(where) as client:
        execution = client.workspace.exec(
            name=command.workspace, argv=command.argv, cwd=command.cwd, env=command.env, timeout_s=command.timeout_s,
            **given,
        )  # fmt: skip
    output.show(execution, json=True)
    _say_no_shell(command, execution.exit_code, where)
    return execution


def is_for_a_shell(command: Command, exit_code: int | None) -> bool:
    """Tell whether a command was not found because it is a line of a shell."""
    argv = command.argv
    return exit_code == NOT_FOUND and len(argv) == 1 and bool(set(argv[0]) & OF_A_SHELL)


def _say_no_shell(command: Command, exit_code: int | None, where: OneNode) -> None:
    """Say that no shell reads the command, if a line of a shell was given for a program."""
    if is_for_a_shell(command, exit_code):
        hint = f"inv workspace.exec {command.workspace} -- sh -c {shlex.quote(command.argv[0])}"
        hint = completed(hint, node=where.get("node") or "", file=where.get("file") or "")
        output.say(f"hint: there is no shell: {hint}")
