"""All checks: this machine first, then the nodes, several at once."""

from __future__ import annotations

from codesmith.cli.hints import completed
from codesmith.cli.progress import Progress
from codesmith.doctor.controller import ON_CONTROLLER, check_controller
from codesmith.doctor.finding import Finding, Reporter
from codesmith.doctor.node import check_node
from codesmith.errors import CodeSmithError
from codesmith.fleet import parallel
from codesmith.fleet.report import watched
from codesmith.fleet.selection import Choice, Chosen, choose, is_for_all, registry
from codesmith.nodes.registry import Registry


def examine(choice: Choice) -> list[dict[str, str]]:
    """Return every finding, those about the controller first; a nodes.yaml that cannot be read is one of them."""
    found, problem = _read(choice)
    findings = [problem, *check_controller(found)]
    if found is not None and (found.nodes or choice.get("node") or choice.get("tag")):
        findings += _nodes(choose({**choice, "all": is_for_all(choice)}))
    file = choice.get("file") or ""
    rows = [finding.to_dict() for finding in findings]
    return [{**row, "next": completed(row["next"], file=file)} for row in rows]


def _read(choice: Choice) -> tuple[Registry | None, Finding]:
    try:
        found = registry(choice.get("file") or "")
    except CodeSmithError as error:
        return None, ON_CONTROLLER.error("registry.file", error, "inv node.add NAME --host HOST --file nodes.yaml")
    return found, ON_CONTROLLER.ok("registry.file", f"{found.path} (nodes: {len(found.nodes)})")


def _nodes(chosen: Chosen) -> list[Finding]:
    outcomes = watched(chosen, check_node, Progress(len(chosen.nodes), "look"))
    return [finding for outcome in outcomes for finding in _findings(outcome)]


def _findings(outcome: parallel.Outcome[list[Finding]]) -> list[Finding]:
    """Return the findings of a node; if a check failed unexpectedly, its error as the only finding."""
    say = Reporter(outcome.node.name)
    return [say.error("ssh.shell", outcome.error, "inv node.list")] if outcome.error else outcome.result or []
