"""Prepare a node: probe, plan, apply, prove. Safe to run again, also after an interrupted run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codesmith.bootstrap.session import Progress, Session, first_text
from codesmith.bootstrap.step import Step
from codesmith.errors import StepFailed, Unsupported

if TYPE_CHECKING:
    from codesmith.bootstrap.facts import Facts
    from codesmith.bootstrap.layout import Desired
    from codesmith.bootstrap.pack import Payload
    from codesmith.nodes.registry import Node

__all__ = ["Prepared", "Progress", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A node after prepare. With `plan_only` nothing was changed and `steps` are those that would be done."""

    node: str
    steps: tuple[Step, ...]
    changed: bool
    node_id: str | None
    agent_version: str
    seconds: float


def prepare(
    node: Node,
    *,
    plan_only: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_new_node: Callable[[], object] = lambda: None,
) -> Prepared:
    """Bring `node` to its desired state and prove that its agent answers.

    `on_new_node` is called before the first change of a node that has no id yet: what was known of its name is over.
    Unsupported if the node cannot be prepared, StepFailed if a step failed, and the errors of `connect`. Several
    prepares of one node may run at once: they take turns there.
    """
    from codesmith.bootstrap.layout import desired_for
    from codesmith.bootstrap.pack import pack

    payload = pack()
    desired = desired_for(payload, str(uuid.uuid4()), node.git_hosts)
    with Session(node, on_progress) as session:
        return _Run(session, payload, desired, on_new_node).prepare(plan_only=plan_only)


class _Run:
    """One prepare of one node."""

    def __init__(self, session: Session, payload: Payload, desired: Desired, on_new_node: Callable[[], object]) -> None:
        self._session, self._payload, self._desired = session, payload, desired
        self._on_new_node = on_new_node

    def prepare(self, *, plan_only: bool) -> Prepared:
        """Probe, plan, and unless `plan_only` apply and prove."""
        facts, steps = self._probe_and_plan()
        if not steps or plan_only:
            return self._prepared(steps, facts.node_id, changed=False)
        if facts.node_id is None:
            self._on_new_node()
        before: tuple[Step, ...] = ()
        if facts.python is None:
            before = self._install_python(steps)
            facts, steps = self._probe_and_plan()
            if facts.python is None:
                problem = f"node {self._session.name}: python3 is installed, but /usr/bin/python3 is still missing"
                raise StepFailed(problem, hint="on the node: ls -l /usr/bin/python3")
        # `done` is empty if another prepare has done it all meanwhile: nothing is left to prove.
        done = self._session.carry_out(facts, steps, self._probe_and_plan, self._payload.data)
        node_id = self._prove(done) if done else self._facts.node_id
        return self._prepared([*before, *done], node_id, changed=bool(before or done))

    def _probe_and_plan(self) -> tuple[Facts, list[Step]]:
        from codesmith.bootstrap.door import shut_text
        from codesmith.bootstrap.plan import plan
        from codesmith.bootstrap.support import save_and_begin_anew

        self._facts = self._session.probe(self._desired)
        try:
            steps = plan(self._facts, self._desired)
        except Unsupported as error:
            name = self._session.name
            hint = save_and_begin_anew(self._facts, self._desired, name) or error.hint
            raise Unsupported(f"node {name} cannot be prepared: {error.problem}", hint=hint) from error
        self._session.say("probe", f"{len(steps)} steps to do" if steps else "nothing to do", first_text(steps))
        if shut := shut_text(self._facts):
            self._session.say("door", shut, first_text(steps))
        return self._facts, steps

    def _install_python(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        from codesmith.bootstrap.apply import install_python

        step = next(step for step in steps if step.kind == "package")
        install_python(self._session.connection, step)
        self._session.say("step", step.text)
        self._desired = replace(self._desired, installed=tuple(step.order["names"]))
        return (step,)

    def _prove(self, done: Sequence[Step]) -> str:
        if any(step.kind == "member" for step in done):
            self._session.reconnect()
        node_id = self._facts.node_id or self._desired.new_node_id
        self._session.prove(self._payload.sha256, node_id)
        return node_id

    def _prepared(self, steps: Sequence[Step], node_id: str | None, *, changed: bool) -> Prepared:
        session = self._session
        return Prepared(session.name, tuple(steps), changed, node_id, self._desired.version, session.seconds)
