"""Back to the release that answered before; once more, and it is forth again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.releases import plan_switch, target_of
from codesmith.bootstrap.services import plan_reload, plan_restart
from codesmith.bootstrap.session import Session, Tell, first
from codesmith.bootstrap.step import Step
from codesmith.errors import NotPrepared, StepFailed

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node


@dataclass(frozen=True)
class RolledBack:
    """A node on which another release runs than before."""

    node: str
    node_id: str
    agent_version: str
    left_version: str
    seconds: float


def rollback(node: Node, *, on_progress: Tell | None = None) -> RolledBack:
    """Make the previous release of `node` the current one, with its units, and prove it.

    StepFailed when there is none, when it does not understand what a newer one has written, or when it does not
    answer: then the current one stays, or is back.
    """
    from codesmith.bootstrap.pack import pack

    desired = layout.desired_for(pack(), "")
    with Session(node, on_progress, again=f"inv node.rollback --node {node.name}") as session:

        def look() -> tuple[Facts, list[Step]]:
            facts = session.probe_installed(desired)
            steps = plan_rollback(facts, node.name)
            session.say("probe", f"{len(steps)} steps to do", first(steps))
            return facts, steps

        facts, steps = look()
        steps = session.carry_out(facts, steps, look)
        build = str(steps[-1].order["answer"]["build"])
        version = session.prove(build, str(facts.node_id))
        left = str((facts.agent or {}).get("agent", ""))
        return RolledBack(node.name, str(facts.node_id), version, left, session.seconds)


def plan_rollback(facts: Facts, name: str) -> list[Step]:
    """Return the steps that make the release before the current one; StepFailed if there is none."""
    if not target_of(facts, layout.CURRENT):
        problem = f"{name} answers SSH but has no CodeSmith agent"
        raise NotPrepared(problem, hint=f"inv node.prepare --node {name}")
    for path in (layout.FALLBACK, layout.PREVIOUS):
        target, agent = target_of(facts, path), facts.files.get(layout.agent_of(path))
        if target and target != target_of(facts, layout.CURRENT) and agent:
            build = str(agent.get("sha256"))
            return [
                plan_switch(facts, target, f"the release before ({build[:12]})"),
                plan_reload(),
                plan_restart(build),
            ]
    problem = f"node {name}: there is no release to go back to; one is kept from the first upgrade on"
    raise StepFailed(problem, hint=f"inv node.version --node {name}")
