"""Prepare, verify, roll back and uninstall the agent on the chosen nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from codesmith.cli import output
from codesmith.cli.hints import completed
from codesmith.cli.progress import Progress
from codesmith.errors import Cancelled, PlanNotEmpty
from codesmith.fleet import parallel, report, runs
from codesmith.fleet.report import PLAN, Row, plan_lines, report_steps
from codesmith.fleet.selection import Chosen, ResumableChoice
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.bootstrap.session import Progress as Done
    from codesmith.bootstrap.session import Tell
    from codesmith.bootstrap.uninstall import Uninstalled


class Prepared(list[Row]):
    """The rows of a prepare; `exit_code` is 7 if a plan is not empty."""

    exit_code = 0


def prepare_all(options: ResumableChoice, *, plan_only: bool) -> Prepared:
    """Prepare the chosen nodes in parallel, by default all, or only show what would be done."""
    from codesmith.bootstrap.pack import pack

    run = runs.begin("node.prepare", options, build=pack().sha256, all_by_default=True)
    work = partial(prepare, plan_only=plan_only)
    if not plan_only:
        columns = ("node", "result", "agent_version", "seconds", "error")
        with run:
            return Prepared(report_steps(run.chosen, run.follow_steps(work), columns))
    rows = Prepared(report_steps(run.chosen, work, PLAN, lines=plan_lines))
    if any(row.get("steps") for row in rows):
        rows.exit_code = PlanNotEmpty.exit_code
    return rows


def prepare(node: Node, tell: Callable[[Done], None], *, plan_only: bool) -> Row:
    """Prepare one node and report each step to `tell`."""
    from codesmith.bootstrap.prepare import prepare as prepare_node
    from codesmith.tunnel import identity

    # A reinstalled node has a new id; the operator who prepares it accepts that. The old id is forgotten before the
    # agent starts, because a forwarder that waits for the node meets the new id at once.
    forget = partial(identity.forget, node)
    done = prepare_node(node, plan_only=plan_only, on_progress=tell, on_new_node=forget)
    if done.node_id and not plan_only:
        identity.remember(node, done.node_id)
    return {
        "node": node.name,
        "result": "prepared" if done.changed else "planned" if plan_only and done.steps else "nothing to do",
        "changed": done.changed,
        "steps": [step.to_dict() for step in done.steps],
        "agent_version": done.agent_version,
        "node_id": done.node_id,
        "seconds": round(done.seconds, 2),
    }


class Verified(list[Row]):
    """The rows of a verify; `exit_code` is 1 if a node differs from what prepare left."""

    exit_code = 0


def verify_all(chosen: Chosen) -> Verified:
    """Compare nodes with their ledgers and with what this CodeSmith would install."""
    columns = ("node", "kind", "name", "status", "expected", "found", "error")
    rows = Verified(report.report(chosen, verify, columns, lines=drift_lines))
    drifted: list[str] = []
    for row in rows:
        drift = [one for one in row.get("findings", []) if one["status"] != "ok"]
        added = [str(one["name"]) for one in drift if one["kind"] == "drop-in"]
        rows.exit_code = rows.exit_code or int(bool(drift))
        if added:
            output.say(f"on {row['node']}, not written by CodeSmith and not changed by prepare: {', '.join(added)}")
        if len(drift) > len(added):
            drifted.append(f"--node {row['node']}")
    if drifted:
        repair = completed(f"inv node.prepare {' '.join(drifted)}", file=chosen.file)
        output.say(f"to repair: {repair}")
    return rows


def verify(node: Node) -> Row:
    """Compare one node, and change nothing there."""
    from codesmith.bootstrap.verify import verify as verify_node

    findings = [one.to_dict() for one in verify_node(node)]
    is_ok = all(one["status"] == "ok" for one in findings)
    return {"node": node.name, "status": "ok" if is_ok else "drift", "findings": findings}


def drift_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one row per difference, or a single row for a node without any."""
    lines: list[Row] = []
    for row in rows:
        findings = row.get("findings", [])
        drift = [{**one, "node": row["node"]} for one in findings if one["status"] != "ok"]
        ok = {"node": row["node"], "kind": "all", "name": f"{len(findings)} things", "status": "ok"}
        failed = {"node": row["node"], "error": row.get("error")}
        lines += [failed] if "error" in row else drift or [ok]
    return lines


def rollback_all(options: ResumableChoice) -> list[Row]:
    """Roll the chosen nodes back to the release before the last upgrade."""
    columns = ("node", "result", "agent_version", "left_version", "seconds", "error")
    with runs.begin("node.rollback", options, is_repeatable=False) as run:
        return report.report_steps(run.chosen, run.follow_steps(rollback), columns)


def rollback(node: Node, tell: Tell) -> Row:
    """Roll one node back to the release before the last upgrade, and report each step to `tell`."""
    from codesmith.bootstrap.rollback import rollback as roll_back

    done = roll_back(node, on_progress=tell)
    return {
        "node": node.name,
        "result": "rolled back",
        "agent_version": done.agent_version,
        "left_version": done.left_version,
        "node_id": done.node_id,
        "seconds": round(done.seconds, 2),
    }


class Removed(list[Row]):
    """The rows of an uninstall; `exit_code` is 7 if a plan is not empty."""

    exit_code = 0


def uninstall_all(options: ResumableChoice, *, purge: bool, yes: bool, plan_only: bool) -> Removed:
    """Remove CodeSmith from the chosen nodes, after the operator has seen the steps and confirmed them.

    `yes` removes without asking; `plan_only` only shows the steps.
    """
    run = runs.begin("node.uninstall", options, {"purge": purge})
    if plan_only:
        work = partial(_plan, purge=purge)
        rows = Removed(report.report_steps(run.chosen, work, report.PLAN, lines=report.plan_lines))
        if any(row.get("steps") for row in rows):
            rows.exit_code = PlanNotEmpty.exit_code
        return rows
    if not yes:
        _confirm(run.chosen, purge=purge)
    columns = ("node", "result", "kept", "packages", "seconds", "error")
    with run:
        return Removed(report.report_steps(run.chosen, run.follow_steps(partial(_uninstall, purge=purge)), columns))


def _confirm(chosen: Chosen, *, purge: bool) -> None:
    """Show the steps and ask. If one node refuses, nothing is removed from any."""
    outcomes = report.watched(chosen, partial(_plan, purge=purge), Progress(len(chosen.nodes), "look"))
    parallel.raise_only(outcomes)
    rows: list[Row] = parallel.results(outcomes, lambda node, error: {"node": node.name, "error": error.problem})
    parallel.raise_failures(outcomes)
    busy = [row for row in rows if row["steps"]]
    for row in busy:
        for step in row["steps"]:
            output.say(f"{row['node']}  {step['text']}")
    if busy:
        names = ", ".join(str(row["node"]) for row in busy)
        if not output.confirm(f"do all this on {names}?"):
            again = " ".join(f"--node {node.name}" for node in chosen.nodes)
            more = " --purge" if purge else ""
            raise Cancelled(f"nothing was removed from {names}", hint=f"inv node.uninstall {again}{more} --yes")


def _plan(node: Node, tell: Tell | None = None, *, purge: bool) -> Row:
    from codesmith.bootstrap.uninstall import uninstall

    return _uninstall_row(node, uninstall(node, purge=purge, plan_only=True, on_progress=tell), is_plan=True)


def _uninstall(node: Node, tell: Tell, *, purge: bool) -> Row:
    from codesmith.bootstrap.uninstall import uninstall
    from codesmith.tunnel import control, identity

    def follow(step: Done) -> None:
        if step.phase == "probe":
            # The node has not refused. Close the endpoint before the agent goes, or it would try for ever to reconnect.
            control.disconnect(node)
        tell(step)

    done = uninstall(node, purge=purge, on_progress=follow)
    identity.forget(node)
    return _uninstall_row(node, done, is_plan=False)


def _uninstall_row(node: Node, done: Uninstalled, *, is_plan: bool) -> Row:
    return {
        "node": node.name,
        "result": ("planned" if is_plan else "uninstalled") if done.steps else "nothing to do",
        "changed": bool(done.steps) and not is_plan,
        "steps": [step.to_dict() for step in done.steps],
        "kept": list(done.kept),
        "packages": list(done.packages),
        "seconds": round(done.seconds, 2),
    }
