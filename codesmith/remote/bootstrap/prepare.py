"""Prepare a node: probe, plan, apply, prove. Safe to run again, also after it was cut off anywhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codesmith.errors import StepFailed, Unsupported
from codesmith.remote.bootstrap.step import Step, StepResult

if TYPE_CHECKING:
    from codesmith.registry import Node
    from codesmith.remote.bootstrap.facts import Facts
    from codesmith.remote.bootstrap.layout import Wish
    from codesmith.remote.pack import Payload
    from codesmith.remote.target import Target

CONNECT_TIMEOUT_S = 10.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Progress:
    """One thing that is done: `phase` is connect, probe, step or prove."""

    node: str
    phase: str
    text: str
    seconds: float
    ok: bool = True
    message: str = ""


@dataclass(frozen=True)
class Prepared:
    """A node after prepare. With `plan_only` nothing was changed and `steps` is what would be done."""

    node: str
    steps: tuple[Step, ...]
    changed: bool
    node_id: str | None
    agent_version: str
    seconds: float


def prepare(node: Node, *, plan_only: bool = False, on_progress: Callable[[Progress], None] | None = None) -> Prepared:
    """Bring `node` to what this CodeSmith wants of a node, and prove it; nothing is done when there is nothing to do.

    Unsupported, StepFailed and the errors of `connect` say what is in the way. Safe to run at the same time as another
    prepare of the same node: they take turns there.
    """
    from codesmith.remote.target import resolve

    target = resolve(node)
    return _Run(target, on_progress or _ignore).prepare(plan_only=plan_only)


def _ignore(progress: Progress) -> None:
    """Tell nobody."""


class _Run:
    """One prepare of one node: the connection, and what is told on the way."""

    def __init__(self, target: Target, tell: Callable[[Progress], None]) -> None:
        self._target, self._tell = target, tell
        self._begun = self._last = time.monotonic()

    def prepare(self, *, plan_only: bool) -> Prepared:
        """Probe, plan, and unless `plan_only` apply and prove."""
        from codesmith.remote.bootstrap.layout import wish_for
        from codesmith.remote.connection import connect
        from codesmith.remote.pack import pack

        payload = pack()
        wish = wish_for(payload, str(uuid.uuid4()))
        self._connection = connect(self._target, timeout_s=CONNECT_TIMEOUT_S)
        try:
            self._say("connect", f"connected to {self._target}")
            return self._run(payload, wish, plan_only=plan_only)
        finally:
            self._connection.close()

    def _run(self, payload: Payload, wish: Wish, *, plan_only: bool) -> Prepared:
        facts, steps = self._look(wish)
        if not steps or plan_only:
            return self._prepared(wish, steps, facts.node_id, changed=False)
        before: tuple[Step, ...] = ()
        if facts.python is None:
            before, wish = self._install_python(steps, wish)
            facts, steps = self._look(wish)
        facts, steps = self._apply(facts, steps, wish, payload)
        node_id = self._prove(payload, facts.node_id or wish.new_node_id, steps)
        return self._prepared(wish, [*before, *steps], node_id, changed=True)

    def _look(self, wish: Wish) -> tuple[Facts, list[Step]]:
        from codesmith.remote.bootstrap.plan import plan
        from codesmith.remote.bootstrap.probe import probe

        facts = probe(self._connection, wish)
        try:
            steps = plan(facts, wish)
        except Unsupported as error:
            raise Unsupported(f"node {self._target.name} cannot be prepared: {error.problem}") from error
        self._say("probe", f"{len(steps)} steps to do" if steps else "nothing to do")
        return facts, steps

    def _install_python(self, steps: Sequence[Step], wish: Wish) -> tuple[tuple[Step, ...], Wish]:
        from codesmith.remote.bootstrap.apply import install_python

        step = next(step for step in steps if step.kind == "package")
        install_python(self._connection, step)
        self._say("step", step.text)
        return (step,), replace(wish, installed=tuple(step.order["names"]))

    def _apply(self, facts: Facts, steps: list[Step], wish: Wish, payload: Payload) -> tuple[Facts, list[Step]]:
        from codesmith.remote.bootstrap.apply import apply

        for _ in range(ATTEMPTS):
            if not steps or apply(self._connection, facts, steps, payload.data, self._say_result):
                return facts, steps
            facts, steps = self._look(wish)
        raise StepFailed(f"node {self._target.name}: other prepares keep changing it", hint="wait for them to end")

    def _prove(self, payload: Payload, node_id: str, steps: Sequence[Step]) -> str:
        from codesmith.remote.bootstrap.prove import expect_node, prove
        from codesmith.remote.connection import connect

        if any(step.kind == "member" for step in steps):
            # A session keeps the groups it began with.
            self._connection.close()
            self._connection = connect(self._target, timeout_s=CONNECT_TIMEOUT_S)
        found = prove(self._connection, payload.sha256)
        expect_node(self._target.name, found, node_id)
        self._say("prove", f"agent {found['agent']} answers on node {node_id}")
        return node_id

    def _say(self, phase: str, text: str) -> None:
        now = time.monotonic()
        self._tell(Progress(self._target.name, phase, text, now - self._last))
        self._last = now

    def _say_result(self, result: StepResult) -> None:
        self._tell(Progress(self._target.name, "step", result.step.text, result.seconds, result.ok, result.message))
        self._last = time.monotonic()

    def _prepared(self, wish: Wish, steps: Sequence[Step], node_id: str | None, *, changed: bool) -> Prepared:
        seconds = time.monotonic() - self._begun
        return Prepared(self._target.name, tuple(steps), changed, node_id, wish.version, seconds)
