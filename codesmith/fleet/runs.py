"""Fleet commands that can be resumed: which of their nodes are done, kept in a private file until all are.

The file is CODESMITH_HOME/runs/TASK-HASH.json, one for each task and nodes.yaml. It says for each node how far it came,
and what the node was: a node whose entry has changed since is not done any more.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import os
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from codesmith import paths
from codesmith.cli import output, people
from codesmith.cli.hints import completed
from codesmith.errors import BadArgument, CodeSmithError, StepFailed, Unproven
from codesmith.fleet import selection
from codesmith.fleet.selection import Chosen, ResumableChoice
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.bootstrap.session import Progress as Done
    from codesmith.bootstrap.session import Tell

T = TypeVar("T")
WAITING, BEGUN, CHANGING, FAILED, DONE = "waiting", "begun", "changing", "failed", "done"


class Run:
    """One fleet command on its way: the nodes that it works on, and the file that says which are done.

    A command for one node has no file, but is noted in that of a fleet command which was cut off.
    """

    def __init__(
        self,
        task: str,
        chosen: Chosen,
        path: Path | None,
        record: dict[str, Any],
        *,
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.task, self.chosen, self._path, self._record = task, chosen, path, record
        self._resumed, self._is_resumed = resumed, resumed is not None  # what the file said
        self._lock, self._held = threading.Lock(), -1

    def __enter__(self) -> Run:
        if self._path is not None:
            self._held = _hold(self._path)
            if self._held < 0:  # another one has the file
                if self._is_resumed:
                    problem = f"another {self.task} of several nodes of this nodes.yaml is running"
                    raise CodeSmithError(problem, hint="wait for its end, or end it with Ctrl-C")
                self._path = None
            else:
                self._read_again(self._path)
            self._write()
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._end(self._path)
        if self._held >= 0:
            os.close(self._held)

    def _read_again(self, path: Path) -> None:
        """Take the file as it is now that nobody else changes it: others may have gone on while a person was asked."""
        if self._is_resumed and _peek(path) != self._resumed:
            os.close(self._held)
            command = completed(f"inv {self.task} --resume", file=self.chosen.file)
            raise CodeSmithError(f"another {self.task} of these nodes has run meanwhile", hint=command)
        if not self._is_resumed and len(self.chosen.nodes) == 1:
            record = _noted(path, self.chosen.nodes[0])
            self._path, self._record = (path, record) if record else (None, {})

    def _end(self, path: Path) -> None:
        """Remove the file if all nodes are done; else say how to go on with the others."""
        missing = sum(one["state"] != DONE for one in self._record["nodes"].values())
        if not missing:
            path.unlink(missing_ok=True)
        elif self._is_resumed or len(self.chosen.nodes) > 1:
            command = completed(f"inv {self.task} --resume", file=self.chosen.file)
            what = "is not done" if missing == 1 else "are not done"
            output.say(f"{missing} of {len(self._record['nodes'])} nodes {what}; to go on with them: {command}")

    def follow(self, work: Callable[[Node], T]) -> Callable[[Node], T]:
        """Return `work` that notes how it went at each node."""
        return partial(self._work, work)

    def follow_steps(self, work: Callable[[Node, Tell], T]) -> Callable[[Node, Tell], T]:
        """Like `follow`, for work that tells its steps: behind its probe, it changes the node."""

        def followed(node: Node, tell: Tell) -> T:
            def note(step: Done) -> None:
                if step.phase == "probe":
                    self._note(node, CHANGING)
                tell(step)

            return self._work(lambda one: work(one, note), node)

        return followed

    def _work(self, work: Callable[[Node], T], node: Node) -> T:
        self._note(node, BEGUN)
        try:
            result = work(node)
        except CodeSmithError as error:
            is_known = isinstance(error, StepFailed) and not isinstance(error, Unproven)
            self._note(node, CHANGING if self._state_of(node) == CHANGING and not is_known else FAILED)
            raise
        self._note(node, DONE)
        return result

    def _state_of(self, node: Node) -> str:
        with self._lock:
            return str(self._record.get("nodes", {}).get(node.name, {}).get("state"))

    def _note(self, node: Node, state: str) -> None:
        with self._lock:
            if node.name in self._record.get("nodes", {}):
                self._record["nodes"][node.name] = {"state": state, "entry": _entry(node)}
                self._write()

    def _write(self) -> None:
        """Write the file at once, whole, for its owner alone; a full disk must not keep nodes from being worked on."""
        if self._path is None:
            return
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            with paths.writing(self._path):
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(self._record, file, indent=1)
                temporary.replace(self._path)
        except CodeSmithError as error:
            self._path = None
            output.warn([f"--resume will not know how far this came: {error.problem}"])
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def begin(
    task: str,
    options: ResumableChoice,
    settings: Mapping[str, Any] | None = None,
    *,
    build: str = "",
    is_repeatable: bool = True,
    all_by_default: bool = False,
) -> Run:
    """Return a new run on the chosen nodes, or with `resume` the one that was cut off, on those that are not done.

    `settings` and `build` (of the agent that is installed) must be those that the run began with. Of a task that is not
    repeatable, a node that was being changed is left out and named.
    """
    selection.take_sudo_password(options.get("sudo_password_file"))
    if options.get("resume"):
        return _resumed(task, options, dict(settings or {}), build, is_repeatable=is_repeatable)
    is_for_all = options.get("all", False) or (all_by_default and selection.is_for_all(options))
    which: ResumableChoice = {**options, "all": is_for_all}
    chosen = selection.choose(which)
    try:
        path = _path(task, options)
    except CodeSmithError as error:  # no folder for it
        output.warn([f"--resume will not know how far this came: {error.problem}"] if len(chosen.nodes) > 1 else [])
        return Run(task, chosen, None, {})
    if len(chosen.nodes) == 1:
        record = _noted(path, chosen.nodes[0])
        return Run(task, chosen, path if record else None, record or {})
    nodes = {node.name: {"state": WAITING, "entry": _entry(node)} for node in chosen.nodes}
    began_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    new = {"task": task, "began_at": began_at, "settings": dict(settings or {}), "build": build, "nodes": nodes}
    return Run(task, chosen, path, new)


def _resumed(task: str, options: ResumableChoice, settings: dict[str, Any], build: str, *, is_repeatable: bool) -> Run:
    if any(options.get(option) for option in ("node", "tag", "all")):
        raise BadArgument("--resume takes its nodes from the run that was cut off", hint=f"inv {task} --resume")
    path = _path(task, options)
    record = _read(path)
    resumed = copy.deepcopy(record)
    if record is None:
        problem = f"no {task} of {paths.nodes_file(options.get('file') or '')} was cut off"
        raise CodeSmithError(problem, hint=f"the nodes that are chosen anew: inv {task} --all")
    again = f"all of them again: inv {task} {' '.join(f'--node {shlex.quote(name)}' for name in record['nodes'])}"
    if record["settings"] != settings:
        given = ", ".join(f"--{name}" for name, value in record["settings"].items() if value) or "no option"
        raise BadArgument(f"the {task} that was cut off began with {given}", hint="give the same options to --resume")
    if record["build"] != build:
        raise CodeSmithError(f"since that {task} began, the agent of this CodeSmith has changed", hint=again)
    registry = selection.registry(options.get("file") or "")
    left: list[Node] = []
    for name, one in list(record["nodes"].items()):
        node = registry.nodes.get(name)
        if node is None:
            output.say(f"{name} is not in nodes.yaml any more: left out")
            del record["nodes"][name]
        elif one["entry"] != _entry(node):
            output.say(f"{name} has changed in nodes.yaml: it is not done any more")
            one.update(state=WAITING, entry=_entry(node))
            left.append(node)
        elif one["state"] == CHANGING and not is_repeatable:
            look = completed("inv node.version", node=name, file=options.get("file") or "")
            output.say(f"{name} was being changed, and may be done: left out; see how it is: {look}")
            del record["nodes"][name]
        elif one["state"] != DONE:
            left.append(node)
    total = len(record["nodes"])
    output.say(f"{task} of {record['began_at']}: {total - len(left)} of {people.count(total, 'node')} done")
    every: ResumableChoice = {**options, "all": True}
    chosen = replace(selection.choose(every), nodes=left)
    return Run(task, chosen, path, record, resumed=resumed)


def _path(task: str, options: ResumableChoice) -> Path:
    registry = paths.nodes_file(options.get("file") or "").resolve()
    digest = hashlib.sha256(os.fsencode(registry)).hexdigest()[:16]
    return paths.ensure_private(paths.state_dir() / "runs") / f"{task}-{digest}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return what the file says; None without one, CodeSmithError if it is damaged."""
    try:
        record = json.loads(path.read_text())
        for one in record["nodes"].values():
            if not (isinstance(one["entry"], str) and isinstance(one["state"], str)):
                raise TypeError
        return {key: record[key] for key in ("task", "began_at", "settings", "build", "nodes")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        hint = f"rm {shlex.quote(str(path))}  # then without --resume"
        raise CodeSmithError(f"cannot read which nodes are done: {path} is damaged", hint=hint) from error


def _noted(path: Path, node: Node) -> dict[str, Any] | None:
    """Return the file of the run that was cut off, if a node is in it; a damaged one matters to --resume alone."""
    record = _peek(path)
    return record if record and node.name in record["nodes"] else None


def _peek(path: Path) -> dict[str, Any] | None:
    """Return what the file says; None without one, and of a damaged one."""
    with contextlib.suppress(CodeSmithError):
        return _read(path)
    return None


def _hold(path: Path) -> int:
    """Return a descriptor that locks the file of a run; -1 if another process has it."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _entry(node: Node) -> str:
    """Return a hash of what nodes.yaml says of how a node is reached."""
    known = {key: value for key, value in node.to_dict().items() if key not in ("tags", "labels", "registry")}
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]
