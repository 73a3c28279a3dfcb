"""The checks `needs` and `logins` of node.health: the list of needs.py, which the helper checks as root."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from agent.frontend.context import Context
from agent.shared.errors import AgentError

REPLY_TIMEOUT_S = 30.0
STATUS = {"ok": "ok", "warn": "degraded", "unknown": "degraded", "fail": "failing"}
RANK = ("ok", "degraded", "failing")


def check(context: Context) -> Tuple[str, str]:
    """Return status and detail of the check of what everything needs."""
    try:
        needs = context.helper.call("node.check", reply_timeout_s=REPLY_TIMEOUT_S).get("needs")
    except AgentError as error:
        return "degraded", f"could not look: {error.problem.partition(';')[0]}"
    return _judge(needs) if needs else ("degraded", "could not look: the helper has no list")


def _judge(needs: List[Dict[str, Any]]) -> Tuple[str, str]:
    worst = max((STATUS[need["status"]] for need in needs), key=RANK.index)
    problems = [_describe(need) for need in needs if need["status"] != "ok"]
    return worst, "; ".join(problems) or ", ".join(need["name"] for need in needs)


def _describe(need: Dict[str, Any]) -> str:
    fix = need["fix"] if need["fix"].startswith("inv ") else f"on the node: {need['fix']}"
    return f"{need['detail']}{f' ({fix})' if need['fix'] else ''}"
