"""Carry out a plan on a node: one round trip with orders and agent; results are reported as they come."""

from __future__ import annotations

import json
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.probe import MALFORMED, PYTHON, payload, program
from codesmith.bootstrap.releases import target_of
from codesmith.bootstrap.services import fallback_job
from codesmith.bootstrap.step import Step, StepResult
from codesmith.errors import StepFailed, Unproven
from codesmith.ssh.script import ScriptResult, name_of, run_script

if TYPE_CHECKING:
    from codesmith.ssh.connection import Connection

# Directories where a killed run may have left temporary files, besides those of the steps.
LEFT_IN = (layout.CONFIG, layout.CODE, layout.RELEASES, layout.UNIT_DIR)
LOCK_TIMEOUT_S = 300
STEPS_TIMEOUT_S = 600
PACKAGES_TIMEOUT_S = 3600

# Python comes first: a Python program carries out the rest of the plan.
INSTALL_PYTHON = """
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
exec </dev/null >&2
%(install)s || { %(refresh)s && %(install)s; }
"""


@dataclass
class _Output:
    """Parses the lines that on_node/apply.py prints."""

    steps: Sequence[Step]
    on_result: Callable[[StepResult], None]
    failed: dict[str, Any] | None = None
    # How the run ended: done, stale, refused, lost, or rolled_back_to with the version.
    outcome: dict[str, Any] = field(default_factory=dict)

    def take_line(self, line: bytes) -> None:
        """Parse one line; keep a failed step with its command."""
        if not line.startswith(b"{"):
            return
        try:
            found = json.loads(line)
            if "step" not in found:
                self.outcome.update(found)
                return
            step = self.steps[found["step"]]
            result = StepResult(step, bool(found["ok"]), float(found["seconds"]), str(found.get("message", "")))
        except MALFORMED:
            return  # not a line of ours; without "done" at the end the run counts as failed
        self.on_result(result)
        if not result.ok and self.failed is None:
            self.failed = {"message": "", **found, "step": step}


def apply(
    connection: Connection,
    facts: Facts,
    steps: Sequence[Step],
    agent: bytes,
    on_result: Callable[[StepResult], None],
    retry: str = "",
) -> bool:
    """Carry out `steps`; False if another prepare changed the node since `facts` were taken: then probe again.

    StepFailed names the step, its command and its output; its hint is `retry`, the command that continues from there
    (default: prepare). What was done stays. Unproven if the steps ended without a word: some of them may be done.
    """
    job = {
        "orders": [dict(step.order) for step in steps],
        "expect": {
            "files": {layout.LEDGER: facts.ledger, layout.NODE: facts.node},
            "links": {path: target_of(facts, path) for path in (layout.CURRENT, layout.PREVIOUS, layout.FALLBACK)},
        },
        "fallback": fallback_job(),
        "folders": [*{str(Path(step.order["path"]).parent) for step in steps if "path" in step.order}, *LEFT_IN],
        "lock_timeout_s": LOCK_TIMEOUT_S,
    }
    needs_agent = any(step.kind == "release" for step in steps)
    data = payload(program("apply"), job, zlib.compress(agent) if needs_agent else b"")
    output = _Output(steps, on_result)
    timeout_s = PACKAGES_TIMEOUT_S if any(step.kind == "package" for step in steps) else STEPS_TIMEOUT_S
    done = run_script(connection, f"exec {PYTHON}", data, root=True, timeout_s=timeout_s, on_line=output.take_line)
    name = name_of(connection)
    return _judge(name, output, done, retry or _prepare(name))


def _prepare(name: str) -> str:
    return f"inv node.prepare --node {name}"


def _judge(name: str, output: _Output, done: ScriptResult, retry: str) -> bool:
    if output.failed:
        raise _step_failed(name, output.failed["step"], output.failed, output.outcome, retry)
    if "refused" in output.outcome:
        raise StepFailed(f"node {name}: {output.outcome['refused']}", hint=retry)
    if output.outcome.get("stale"):
        return False
    if not output.outcome.get("done"):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        problem = f"node {name}: the steps ended early with status {done.status}: {last[0]}"
        raise Unproven(problem, hint=f"run it again, it continues from there: {retry}")
    return True


def _step_failed(
    name: str, step: Step, failed: Mapping[str, Any], outcome: Mapping[str, Any], retry: str
) -> StepFailed:
    parts = [f"node {name}: could not {step.text}: {failed['message']}"]
    if failed.get("command"):
        parts.append(f"command: {failed['command']}")
    if failed.get("stderr"):
        parts.append(f"it said: {failed['stderr']}")
    if outcome.get("rolled_back_to"):
        parts.append(f"the previous release ({outcome['rolled_back_to']}) runs again")
    if outcome.get("lost"):
        parts.append(outcome["lost"])
    hint = f"fix that, then run: {retry}"
    if step.kind == "service" and not outcome.get("rolled_back_to"):
        hint += f"; or remove everything: inv node.uninstall --node {name}"
    return StepFailed("\n".join(parts), hint=hint)


def install_python(connection: Connection, step: Step) -> None:
    """Install the packages of `step` with plain sh; StepFailed with the package manager's output."""
    script = INSTALL_PYTHON % {name: shlex.join(step.order[name]) for name in ("install", "refresh")}
    done = run_script(connection, script, root=True, timeout_s=PACKAGES_TIMEOUT_S)
    if done.status != 0:
        failed = {"message": f"ended with status {done.status}", "command": step.text, "stderr": done.stderr[-2000:]}
        name = name_of(connection)
        raise _step_failed(name, step, failed, {}, _prepare(name))
