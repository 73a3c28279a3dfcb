"""Store, ledger and node held against each other, for node.health. A change under way is no difference."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Set, Tuple

from agent.frontend.audit import TARGETS
from agent.frontend.context import Context
from agent.shared.names import login_of, path_of

LOOK_S = 20.0
Difference = Tuple[str, str]


def differences(context: Context) -> List[str]:
    """Return what store, ledger and node disagree about; seen twice, and about nothing that is being changed."""
    found = _look(context)
    if not found:
        return []
    again = set(_look(context))
    return [text for name, text in found if (name, text) in again]


def _look(context: Context) -> List[Difference]:
    busy = _busy(context)
    root_half = context.helper.call("node.inspect", reply_timeout_s=LOOK_S)
    found = [*map(tuple, root_half["findings"]), *_of_users(context, root_half), *_of_workspaces(context, root_half)]
    if root_half["more"]:
        found.append(("", f"and {root_half['more']} more between ledger and node"))
    busy |= _busy(context)
    return [(name, text) for name, text in found if name not in busy]


def _busy(context: Context) -> Set[str]:
    """Return the names that changes under way, or half-done, are about: node.health names these by themselves."""
    return {str(one.params[field]) for one in context.store.intents() for field in TARGETS if field in one.params}


def _of_users(context: Context, root_half: Dict[str, Any]) -> Iterator[Difference]:
    ledger, stored = root_half["users"], {one["name"]: one for one in context.store.list_users()}
    for name in sorted(ledger.keys() - stored.keys()):
        way = f"restore a newer state.db, or: inv user.delete {name}"
        yield name, f"user {name} is in the helper's ledger and not in the agent's store ({way})"
    for name in sorted(stored.keys() - ledger.keys()):
        way = f"restore a newer ledger.db, or: inv user.delete {name}"
        yield name, f"user {name} is in the agent's store and not in the helper's ledger ({way})"
    for name in sorted(stored.keys() & ledger.keys()):
        uid, state = ledger[name]
        if uid != stored[name]["uid"]:
            problem = (
                f"{login_of(name)} has uid {uid} in the helper's ledger, {stored[name]['uid']} in the agent's store"
            )
            yield name, f"{problem} (restore the two from one time)"
        if state != stored[name]["state"]:
            way = "disable" if "disabled" in (state, stored[name]["state"]) else "delete"
            problem = f"user {name} is {state} in the helper's ledger, {stored[name]['state']} in the agent's store"
            yield name, f"{problem} (inv user.{way} {name})"


def _of_workspaces(context: Context, root_half: Dict[str, Any]) -> Iterator[Difference]:
    ledger, stored = root_half["workspaces"], {one["name"]: one for one in context.store.list_workspaces()}
    for name in sorted(ledger.keys() - stored.keys()):
        way = f"restore a newer state.db, or: inv workspace.delete {name}"
        yield name, f"workspace {name} is in the helper's ledger and not in the agent's store ({way})"
    for name in sorted(stored.keys() - ledger.keys()):
        way = f"restore a newer ledger.db, or: inv workspace.delete {name}"
        yield name, f"workspace {name} is in the agent's store and not in the helper's ledger ({way})"
    for name in sorted(stored.keys() & ledger.keys()):
        user, _ = ledger[name]
        if user != stored[name]["user"]:
            problem = (
                f"{path_of(name)} is {user}'s in the helper's ledger, {stored[name]['user']}'s in the agent's store"
            )
            yield name, f"{problem} (restore the two from one time)"
        if (stored[name].get("sandbox") is not None) != (name in root_half["sandboxed"]):
            where = "agent's store" if stored[name].get("sandbox") is not None else "helper's ledger"
            yield name, f"the sandbox of workspace {name} is in the {where} alone (inv sandbox.delete {name})"
