"""Switch a node back to its previous release; a second rollback switches forward again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.releases import plan_switch, target_of
from codesmith.bootstrap.services import plan_reload, plan_restart
from codesmith.bootstrap.session import Session, Tell, first_text
from codesmith.bootstrap.step import Step
from codesmith.errors import NotPrepared, StepFailed, Unproven

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node


@dataclass(frozen=True)
class RolledBack:
    """A node after a rollback. `left_version` is the agent that ran before it."""

    node: str
    node_id: str
    agent_version: str
    left_version: str
    seconds: float


def rollback(node: Node, *, on_progress: Tell | None = None) -> RolledBack:
    """Make the previous release of `node` the current one, with its units, and prove that it answers.

    StepFailed when there is none, when it does not know the format of a store, or when it does not answer. The current
    release then keeps running, or runs again. Unproven when nobody saw how it ended, or the node was changed since the
    look at it: a plan that is made anew might go back from what another rollback has just gone to.
    """
    from codesmith.bootstrap.pack import pack

    desired = layout.desired_for(pack(), "")
    with Session(node, on_progress, retry=f"inv node.rollback --node {node.name}") as session:

        def refuse() -> NoReturn:
            raise Unproven(f"node {node.name}: it was changed meanwhile, and is not rolled back by this")

        facts = session.probe_installed(desired)
        steps = plan_rollback(facts, node.name)
        session.say("probe", f"{len(steps)} steps to do", first_text(steps))
        try:
            session.carry_out(facts, steps, refuse)
        except Unproven as error:  # the same again might go forward again
            hint = f"see which release answers: inv node.version --node {node.name}"
            raise Unproven(error.problem, hint=hint) from error
        build = str(steps[-1].order["answer"]["build"])
        version = session.prove(build, str(facts.node_id))
        left = str((facts.agent or {}).get("agent", ""))
        return RolledBack(node.name, str(facts.node_id), version, left, session.seconds)


def plan_rollback(facts: Facts, name: str) -> list[Step]:
    """Return the steps that switch to the previous release, or finish a switch to it that was cut off.

    NotPrepared if the node has no agent, StepFailed if it has no other release.
    """
    if not target_of(facts, layout.CURRENT):
        problem = f"{name} answers SSH but has no CodeSmith agent"
        raise NotPrepared(problem, hint=f"inv node.prepare --node {name}")
    current, fallback = target_of(facts, layout.CURRENT), target_of(facts, layout.FALLBACK)
    # A rollback that was cut off had made `previous` current: to go to `fallback` would undo it, so it is finished.
    is_cut_off = bool(fallback) and current == target_of(facts, layout.PREVIOUS) != fallback
    for path in (layout.PREVIOUS,) if is_cut_off else (layout.FALLBACK, layout.PREVIOUS):
        target, agent = target_of(facts, path), facts.files.get(layout.agent_of(path))
        if target and (is_cut_off or target != current) and agent:
            build = str(agent.get("sha256"))
            return [
                plan_switch(facts, target, f"the previous release ({build[:12]})"),
                plan_reload(),
                plan_restart(build),
            ]
    problem = f"node {name}: there is no release to go back to; the first upgrade keeps one"
    raise StepFailed(problem, hint=f"inv node.version --node {name}")
