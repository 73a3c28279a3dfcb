"""Have a node carry out a plan: one round trip with the orders and the agent, each result as it comes."""

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
from codesmith.bootstrap.probe import NONSENSE, PYTHON, payload, program
from codesmith.bootstrap.releases import target_of
from codesmith.bootstrap.services import home
from codesmith.bootstrap.step import Step, StepResult
from codesmith.errors import StepFailed
from codesmith.ssh.script import ScriptResult, name_of, run_script

if TYPE_CHECKING:
    from codesmith.ssh.carrier import Carrier

# Where a program that was killed may have left a file that is not yet one; besides those it works on.
LEFT_IN = (layout.CONFIG, layout.CODE, layout.RELEASES, layout.UNIT_DIR)
LOCK_TIMEOUT_S = 300
STEPS_TIMEOUT_S = 600
PACKAGES_TIMEOUT_S = 3600

# Python first: the rest of a plan is carried out by a Python program.
INSTALL_PYTHON = """
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
exec </dev/null >&2
%(install)s || { %(refresh)s && %(install)s; }
"""


@dataclass
class _Progress:
    """Collects the lines of node/apply.py."""

    steps: Sequence[Step]
    on_result: Callable[[StepResult], None]
    failed: dict[str, Any] | None = None
    # What the node says of itself after the steps: done, stale, refused, or which release is back.
    said: dict[str, Any] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """Take one line; a failed step is remembered with its command."""
        if not line.startswith(b"{"):
            return
        try:
            found = json.loads(line)
            if "step" not in found:
                self.said.update(found)
                return
            step = self.steps[found["step"]]
            result = StepResult(step, bool(found["ok"]), float(found["seconds"]), str(found.get("message", "")))
        except NONSENSE:
            return  # not a line of ours: without "done" at the end the steps count as failed
        self.on_result(result)
        if not result.ok and self.failed is None:
            self.failed = {"message": "", **found, "step": step}


def apply(
    connection: Carrier,
    facts: Facts,
    steps: Sequence[Step],
    agent: bytes,
    on_result: Callable[[StepResult], None],
    again: str = "",
) -> bool:
    """Carry out `steps`; False if another prepare changed the node since `facts` were taken: then look again.

    StepFailed names the step, its command and what that said, and `again`, the command that goes on from there (a
    prepare, if no other is named): what was done stays.
    """
    job = {
        "orders": [dict(step.order) for step in steps],
        "expect": {
            "files": {layout.LEDGER: facts.ledger, layout.NODE: facts.node},
            "links": {path: target_of(facts, path) for path in (layout.CURRENT, layout.PREVIOUS, layout.FALLBACK)},
        },
        "home": home(),
        "folders": [*{str(Path(step.order["path"]).parent) for step in steps if "path" in step.order}, *LEFT_IN],
        "lock_timeout_s": LOCK_TIMEOUT_S,
    }
    needs_agent = any(step.kind == "release" for step in steps)
    data = payload(program("apply"), job, zlib.compress(agent) if needs_agent else b"")
    progress = _Progress(steps, on_result)
    timeout_s = PACKAGES_TIMEOUT_S if any(step.kind == "package" for step in steps) else STEPS_TIMEOUT_S
    done = run_script(connection, f"exec {PYTHON}", data, root=True, timeout_s=timeout_s, on_line=progress.take)
    name = name_of(connection)
    return _judge(name, progress, done, again or _prepare(name))


def _prepare(name: str) -> str:
    return f"inv node.prepare --node {name}"


def _judge(name: str, progress: _Progress, done: ScriptResult, again: str) -> bool:
    if progress.failed:
        raise _step_failed(name, progress.failed["step"], progress.failed, progress.said, again)
    if "refused" in progress.said:
        raise StepFailed(f"node {name}: {progress.said['refused']}", hint=again)
    if progress.said.get("stale"):
        return False
    if not progress.said.get("done"):
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        problem = f"node {name}: the steps ended early with status {done.status}: {said[0]}"
        raise StepFailed(problem, hint=f"again, it goes on from there: {again}")
    return True


def _step_failed(name: str, step: Step, failed: Mapping[str, Any], said: Mapping[str, Any], again: str) -> StepFailed:
    parts = [f"node {name}: could not {step.text}: {failed['message']}"]
    if failed.get("command"):
        parts.append(f"command: {failed['command']}")
    if failed.get("stderr"):
        parts.append(f"it said: {failed['stderr']}")
    if said.get("back"):
        parts.append(f"the one before ({said['back']}) runs again")
    if said.get("lost"):
        parts.append(said["lost"])
    hint = f"mend that, then again: {again}"
    if step.kind == "service" and not said.get("back"):
        hint += f"; or take all back: inv node.uninstall --node {name}"
    return StepFailed("\n".join(parts), hint=hint)


def install_python(connection: Carrier, step: Step) -> None:
    """Install the packages of `step` with nothing but sh; StepFailed with what the package manager said."""
    script = INSTALL_PYTHON % {name: shlex.join(step.order[name]) for name in ("install", "refresh")}
    done = run_script(connection, script, root=True, timeout_s=PACKAGES_TIMEOUT_S)
    if done.status != 0:
        failed = {"message": f"ended with status {done.status}", "command": step.text, "stderr": done.stderr[-2000:]}
        name = name_of(connection)
        raise _step_failed(name, step, failed, {}, _prepare(name))
