"""The check `door` of node.health: whether people with a key come in through the node's sshd."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

from agent.frontend.context import Context
from agent.shared.errors import AgentError
from agent.shared.names import KEYS

REPLY_TIMEOUT_S = 10.0
NAMED_MAX = 10
FILE_MAX = 1 << 20


def check(context: Context) -> Tuple[str, str]:
    """Return status and detail."""
    try:
        found = context.helper.call("node.check_door", reply_timeout_s=REPLY_TIMEOUT_S)
    except AgentError as error:
        return "degraded", f"could not look: {error.problem.partition(';')[0]}"
    problems = [f"{one['problem']} ({one['fix']})" for one in found.get("problems", ())]
    is_open = bool(found.get("open"))
    if is_open and not problems:
        differences = [] if context.store.damage else list(_differences(context))[:NAMED_MAX]
        if differences:
            return "degraded", "; ".join(differences)
        return "ok", "people with a key come in through the node's sshd, and are inside their workspaces"
    if problems:
        state = "open, and sshd does not do what it must" if is_open else "shut"
        return "degraded", f"{state}: {'; '.join(problems[:NAMED_MAX])}"
    return "degraded", "shut, and sshd would do what it must; inv node.prepare opens it"


def _differences(context: Context) -> Iterator[str]:
    """Yield whose keys on the node are not those in the store."""
    for user in context.store.list_users():
        wanted = user["keys"] if user["state"] == "active" else []
        if _lines(user) != wanted:
            fix = f"inv user.{'enable' if user['state'] == 'active' else 'disable'} {user['name']}"
            yield f"the keys of {user['login']} in {KEYS} are not those of user {user['name']} ({fix})"


def _lines(user: Dict[str, Any]) -> Any:
    """Return the keys of a login as the node's sshd reads them; None when they cannot be read."""
    try:
        with open(f"{KEYS}/{user['login']}", encoding="utf-8") as file:
            return file.read(FILE_MAX).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return None
