"""workspace.exec in several workspaces at once: lines with the name of their workspace, one end for all."""

from __future__ import annotations

import contextlib
import queue
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codesmith.cli import arguments, crash_report, output
from codesmith.errors import AgentRefused, BadArgument, CodeSmithError, Interruption, UnknownName
from codesmith.fleet import parallel, selection
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice, Chosen
from codesmith.nodes.registry import Node
from codesmith.sdk.ended import Ended
from codesmith.workspace import console, execution
from codesmith.workspace.console import Command, NobodyReads
from codesmith.workspace.exec_options import ExecOptions, Executed, failed
from codesmith.workspace.execution import Streams
from codesmith.workspace.prefixed_lines import Paper, PrefixedLines

if TYPE_CHECKING:
    from codesmith.sdk.client import Client
    from codesmith.sdk.streams import Stream


@dataclass(frozen=True)
class Target:
    """A workspace on a node that the command runs in."""

    node: Node
    workspace: str

    @property
    def title(self) -> str:
        """What its lines begin with."""
        return f"{self.node.name}/{self.workspace}"


def is_for_several(options: ExecOptions, name: str | None) -> bool:
    """Tell whether the options name more than one workspace of one node."""
    several = options.get("label") or options.get("all") or options.get("tag")
    return not name or bool(several) or len(options.get("node") or ()) > 1


def run(options: ExecOptions, command: Command, streams: Streams) -> Executed:
    """Run a command at once in the workspace of that name on the chosen nodes, or without a name in all of theirs.

    A node that was not named itself may have no such workspace. Show the output, or with `json` one list.
    """
    labels = arguments.parse_pairs(options.get("label") or [], "--label")
    if streams.tty:
        raise BadArgument("several commands have no terminal: --tty is for one workspace")
    if command.workspace and labels:
        raise BadArgument("--label chooses workspaces, and the name has chosen one", hint="leave one of them out")
    if not command.workspace and not (options.get("all") or labels):
        hint = "in every workspace: inv workspace.exec --all -- COMMAND; of one node: --all --node NODE"
        raise BadArgument("workspace.exec needs the NAME of a workspace, --all or --label", hint=hint)
    chosen = selection.choose(_nodes_of(options, command))
    given = None if streams.no_stdin or streams.stdin is None else arguments.read_bytes(streams.stdin, "--stdin")
    rows, targets = _targets(chosen, command.workspace, labels)
    work = _Work(command, given, is_json=chosen.json)
    rows += _without_absent(work.run(targets, chosen.jobs), command.workspace, options)
    order = {node.name: place for place, node in enumerate(chosen.nodes)}
    found = Executed(sorted(rows, key=lambda row: (order[row["node"]], row["workspace"] or "")))
    found.nobody_reads = work.nobody_reads
    if chosen.json:
        output.show(found, json=True)
    if not work.nobody_reads:
        _say_end(found)
        if execution.is_for_a_shell(command, found.exit_code):
            output.say(f"hint: there is no shell: ... -- sh -c {shlex.quote(command.argv[0])}")
    return found


def _nodes_of(choice: Choice, command: Command) -> Choice:
    """Return which nodes are meant: without a name, --all means every workspace of the nodes that are named."""
    named = choice.get("node") or choice.get("tag")
    return {**choice, "all": False} if named and not command.workspace else choice


def _targets(chosen: Chosen, name: str, labels: Mapping[str, str] | None) -> tuple[list[Row], list[Target]]:
    """Return the workspaces to run in, and a row for each node that could not say which it has."""
    if name:
        return [], [Target(node, name) for node in chosen.nodes]

    def look(node: Node) -> list[Target]:
        with _client(node) as client:
            found = client.workspace.list(labels=dict(labels) if labels else None)
        return [Target(node, one.name) for one in found if one.state == "ready"]

    outcomes = parallel.each(chosen.nodes, look, chosen.jobs)
    parallel.raise_only(outcomes)
    targets = [target for outcome in outcomes for target in outcome.result or ()]
    if not targets:
        parallel.raise_failures(outcomes)
        which = f" with {', '.join(f'{key}={value}' for key, value in labels.items())}" if labels else ""
        names = ", ".join(node.name for node in chosen.nodes)
        raise UnknownName(f"no workspace{which} on {names}", hint="inv workspace.list --all")
    return [_failed(outcome.node.name, None, outcome.error) for outcome in outcomes if outcome.error], targets


class _Work:
    """The command in each of several workspaces, by threads; Ctrl-C goes to all, a second one ends them."""

    def __init__(self, command: Command, given: bytes | None, *, is_json: bool) -> None:
        self._command, self._given, self._is_json = command, given, is_json
        self._queue: queue.Queue[Target] = queue.Queue()
        self._lock = threading.Lock()
        self._running: dict[Target, Stream | None] = {}
        self._rows: dict[Target, Row] = {}
        self._paper = Paper()
        self._is_over = False
        self.nobody_reads = False

    def run(self, targets: Sequence[Target], at_once: int) -> list[Row]:
        """Return a row for each workspace; Interruption after Ctrl-C."""
        for target in targets:
            self._queue.put(target)
        try:
            for _ in targets[:at_once]:
                # A daemon: Ctrl-C must not wait for a node that does not answer.
                threading.Thread(target=self._run_queue, daemon=True).start()
            # Not of the threads: a join that Ctrl-C interrupts takes its thread for ended (Python 3.11).
            self._queue.join()
        except KeyboardInterrupt:
            self._interrupt(len(targets))
        return list(self._rows.values())

    def _interrupt(self, total: int) -> None:
        """Pass Ctrl-C on to all commands and wait for their end; always raises."""
        try:  # at once: the second one may come as soon as the first has reached a command
            self._discard()
            with self._lock:
                running = dict(self._running)
            names = ", ".join(target.title for target in running)
            if not self._is_json:
                for stream in running.values():
                    if stream is not None:
                        stream.signal("SIGINT")
                if names:
                    output.say(f"Ctrl-C goes to the commands in {names}; another one ends them")
                self._queue.join()
        except KeyboardInterrupt:
            self._drop()
            raise Interruption("the commands there are ended, with all they started") from None
        if self._is_json and running:
            raise Interruption(f"{len(self._rows)} of {total} commands have ended; those go on: {names}")
        others = ", the others were not started" if len(self._rows) < total else ""
        raise Interruption(f"{len(self._rows)} of {total} commands have ended{others}")

    def _discard(self) -> None:
        self._is_over = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
                self._queue.task_done()

    def _drop(self) -> None:
        self._discard()
        with self._lock:
            for stream in self._running.values():
                if stream is not None:
                    stream.drop()

    def _run_queue(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                target = self._queue.get_nowait()
                try:
                    self._one(target)
                finally:
                    self._queue.task_done()

    def _one(self, target: Target) -> None:
        with self._lock:
            self._running[target] = None
        try:
            row = self._for_json(target) if self._is_json else self._for_people(target)
        except NobodyReads:
            self.nobody_reads = True
            self._drop()
            return
        except CodeSmithError as error:
            row = self._error(target, error)
        except Exception as error:  # noqa: BLE001  the boundary of one workspace's command
            row = self._error(target, crash_report.crash_report(target.title, error))
        finally:
            with self._lock:
                self._running.pop(target)
        self._rows[target] = row

    def _for_json(self, target: Target) -> Row:
        command = replace(self._command, workspace=target.workspace)
        given = arguments.as_input(self._given)
        with _client(target.node) as client:
            done = client.workspace.exec(
                name=command.workspace, argv=command.argv, cwd=command.cwd, env=command.env,
                timeout_s=command.timeout_s, **given,
            )  # fmt: skip
        return {**_place(target), **done.to_dict()}

    def _for_people(self, target: Target) -> Row:
        lines = PrefixedLines(self._paper, target.title)
        with _client(target.node) as client, self._stream(client, target) as stream:
            with self._lock:
                self._running[target] = stream
            if self._is_over:
                stream.drop()
            feeder = threading.Thread(target=_feed, args=(stream, self._given), daemon=True)
            feeder.start()
            try:
                for name, data in stream.pieces():
                    lines.write(name, data)
            finally:
                lines.end()
                if feeder.is_alive():
                    stream.drop()  # wakes it if it waits until the command reads
                feeder.join()
            ended = stream.result()
        return {**_place(target), **ended.to_dict()}

    def _stream(self, client: Client, target: Target) -> Stream:
        command = self._command
        return client.run(
            target.workspace, command.argv, cwd=command.cwd, env=command.env, timeout_s=command.timeout_s,
            stdin=self._given is not None,
        )  # fmt: skip

    def _error(self, target: Target, error: CodeSmithError) -> Row:
        return {**_failed(target.node.name, target.workspace, error), "is_absent": _is_absent(error)}


def _feed(stream: Stream, given: bytes | None) -> None:
    with contextlib.suppress(OSError):  # the command has ended
        if given is not None:
            stream.write(given)
            stream.end_input()


def _without_absent(rows: Sequence[Row], name: str, choice: Choice) -> list[Row]:
    """Leave out nodes without the workspace, unless they were named themselves; UnknownName if none has it."""
    absent = [row for row in rows if row.pop("is_absent", False)]
    named = choice.get("node") or ()
    left_out = [row for row in absent if row["node"] not in named]
    if left_out and len(left_out) == len(rows):
        raise UnknownName(f"no workspace {name!r} on any of the {len(rows)} nodes", hint="inv workspace.list --all")
    if left_out:
        output.say(f"note: no workspace {name!r} on {', '.join(row['node'] for row in left_out)}")
    return [row for row in rows if row not in left_out]


def _say_end(rows: Sequence[Row]) -> None:
    """Say how many commands ended with 0, and what the others did."""
    bad = failed(rows)
    output.say(f"{len(rows) - len(bad)} of {len(rows)} ended with 0")
    for row in bad:
        title = "/".join(filter(None, (row["node"], row["workspace"])))
        output.say(f"  {title}: {_end_of(row)}")


def _end_of(row: Row) -> str:
    if "error" in row:
        return f"error: {row['error']}"
    ended = Ended(row["exit_code"], row["signal"], row["killed_by"], row["duration_s"])
    why = console.why_of(ended) or (f"after {ended.duration_s:.1f} s" if ended.duration_s else "")
    return f"exit code {'unknown' if ended.exit_code is None else ended.exit_code}" + (f", {why}" if why else "")


def _client(node: Node) -> Client:
    from codesmith.sdk.client import Client

    return Client(node)


def _place(target: Target) -> Row:
    return {"node": target.node.name, "workspace": target.workspace}


def _failed(node: str, workspace: str | None, error: CodeSmithError) -> Row:
    what = {"error": error.problem, "kind": error.kind, "exit_code": error.code}
    return {"node": node, "workspace": workspace, **what}


def _is_absent(error: CodeSmithError) -> bool:
    return isinstance(error, AgentRefused) and error.rpc_kind == "not_found" and "no workspace" in error.problem
