"""Compares the store, the helper's ledger and the node, for node.health. A change in progress is not a difference."""

from __future__ import annotations

import itertools
from typing import AbstractSet, Any, Dict, Iterator, List, Set, Tuple

from agent.frontend.audit import TARGETS
from agent.frontend.context import Context
from agent.shared.names import login_of, path_of

REPLY_TIMEOUT_S = 20.0
# The name of a user or workspace, and the problem.
Difference = Tuple[str, str]


def differences(context: Context) -> List[str]:
    """Return the differences, each seen twice, without those about names that are being changed."""
    first = _compare(context)
    if not first:
        return []
    second = set(_compare(context))
    return [text for name, text in first if (name, text) in second]


def _compare(context: Context) -> List[Difference]:
    busy = _busy_names(context)
    inspected = context.helper.call("node.inspect", reply_timeout_s=REPLY_TIMEOUT_S)
    problems = [*map(tuple, inspected["findings"]), *_of_users(context, inspected), *_of_workspaces(context, inspected)]
    if inspected["more"]:
        problems.append(("", f"and {inspected['more']} more between ledger and node"))
    busy |= _busy_names(context)
    return [(name, text) for name, text in problems if name not in busy]


def _busy_names(context: Context) -> Set[str]:
    """Return the names in changes that run or are pending: node.health shows those by themselves."""
    return {str(one.params[field]) for one in context.store.intents() for field in TARGETS if field in one.params}


def _in_one_alone(kind: str, ledger: AbstractSet[str], stored: AbstractSet[str]) -> Iterator[Difference]:
    """Yield the users or workspaces that ledger and store do not both have."""
    known = {"the helper's ledger": ("ledger.db", ledger), "the agent's store": ("state.db", stored)}
    for there, missing in itertools.permutations(known):
        file = known[missing][0]
        for name in sorted(known[there][1] - known[missing][1]):
            fix = f"restore a newer {file}, or: inv {kind}.delete {name}"
            yield name, f"{kind} {name} is in {there} and not in {missing} ({fix})"


def _of_users(context: Context, inspected: Dict[str, Any]) -> Iterator[Difference]:
    ledger, stored = inspected["users"], {one["name"]: one for one in context.store.list_users()}
    yield from _in_one_alone("user", ledger.keys(), stored.keys())
    for name in sorted(stored.keys() & ledger.keys()):
        uid, state = ledger[name]
        if uid != stored[name]["uid"]:
            problem = (
                f"{login_of(name)} has uid {uid} in the helper's ledger, {stored[name]['uid']} in the agent's store"
            )
            yield name, f"{problem} (restore the two from one time)"
        if state != stored[name]["state"]:
            verb = "disable" if "disabled" in (state, stored[name]["state"]) else "delete"
            problem = f"user {name} is {state} in the helper's ledger, {stored[name]['state']} in the agent's store"
            yield name, f"{problem} (inv user.{verb} {name})"


def _of_workspaces(context: Context, inspected: Dict[str, Any]) -> Iterator[Difference]:
    ledger, stored = inspected["workspaces"], {one["name"]: one for one in context.store.list_workspaces()}
    yield from _in_one_alone("workspace", ledger.keys(), stored.keys())
    for name in sorted(stored.keys() & ledger.keys()):
        user, uid, _ = ledger[name]
        if user != stored[name]["user"]:
            problem = (
                f"{path_of(name)} is {user}'s in the helper's ledger, {stored[name]['user']}'s in the agent's store"
            )
            yield name, f"{problem} (restore the two from one time)"
        if uid != stored[name]["uid"]:
            where = f"{uid} in the helper's ledger, {stored[name]['uid']} in the agent's store"
            yield name, f"{login_of(name)} has uid {where} (restore the two from one time)"
        guests = inspected["shares"].get(name, [])
        for guest in sorted(set(guests) ^ set(stored[name]["shared_with"])):
            where = "helper's ledger" if guest in guests else "agent's store"
            problem = f"workspace {name} is shared with {guest} only in the {where}"
            yield name, f"{problem} (inv workspace.share {name} {guest})"
        if (stored[name].get("sandbox") is not None) != (name in inspected["sandboxed"]):
            where = "agent's store" if stored[name].get("sandbox") is not None else "helper's ledger"
            yield name, f"the sandbox of workspace {name} is only in the {where} (inv sandbox.delete {name})"
