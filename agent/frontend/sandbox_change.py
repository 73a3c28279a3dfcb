"""A sandbox that changes while its runtime runs: its supervisor, then the helper, then the stored document."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from agent.contract.records.sandbox import Sandbox
from agent.frontend.context import Context
from agent.frontend.runtime_client import NotRunning
from agent.shared.errors import AgentError, InUse

# It has nothing else to do for it.
TELL_S = 5.0
LIMITS = ("cpus", "memory_bytes", "runtime_s", "tasks", "disk_bytes")


def change(context: Context, before: Sandbox, fields: Dict[str, Any]) -> Sandbox:
    """Change a sandbox; a second call completes the first.

    InUse when the supervisor that runs is of an older agent, which cannot take a new time limit, and `restart` is not
    given.
    """
    workspace, restart = before["workspace"], fields["restart"]
    has_time = "runtime_s" in fields["limits"]
    is_told = not has_time or _tell(context, workspace, fields["limits"]["runtime_s"])
    if not is_told and not restart:
        problem = f"the runtime of workspace {workspace!r} does not take another time limit while it runs"
        raise InUse(problem, hint=f"use --restart, or first: inv workspace.stop {workspace}")
    try:
        done, ends = _call(context, workspace, fields, ends=not is_told)
    except AgentError:
        if has_time and is_told:
            _tell(context, workspace, before["limits"].get("runtime_s"))
        raise
    if has_time and not ends:
        _tell(context, workspace, done["limits"].get("runtime_s"))  # one that was started meanwhile
    sandbox: Sandbox = {
        **before,
        "limits": done["limits"],
        "network": done["network"],
        "enforced": _enforced(before["enforced"], done),
        "denied": [],
    }
    context.store.change_workspace(workspace, {"sandbox": sandbox})
    return sandbox


def _call(context: Context, workspace: str, fields: Dict[str, Any], *, ends: bool) -> Tuple[Dict[str, Any], bool]:
    """Return what the helper has changed, and whether all that ran is ended: with `ends`, or as the change needs it."""
    if not ends:
        try:
            return context.helper.call("sandbox.change", workspace=workspace, **{**fields, "restart": False}), False
        except InUse as error:
            if not (fields["restart"] and error.data.get("restart")):
                raise
    with context.job_watch.while_ending([workspace]):
        done = context.helper.call("sandbox.change", workspace=workspace, **fields)
        if ends:
            context.helper.call("runtime.stop", workspace=workspace)
    return done, True


def _tell(context: Context, workspace: str, runtime_s: Any) -> bool:
    """Tell a supervisor that runs how long a command may; return whether none runs or it took it."""
    try:
        context.runtimes.ask(workspace, "limits", reply_timeout_s=TELL_S, runtime_s=runtime_s)
    except NotRunning:
        return True
    except AgentError:
        return False
    return True


def _enforced(before: Dict[str, bool], done: Dict[str, Any]) -> Dict[str, bool]:
    """Return what was seen to hold: before, as far as it is asked for still, and now."""
    gone = {name for name in LIMITS if name not in done["limits"]}
    if done["network"] == "full":
        gone.add("network")
    return {**{name: holds for name, holds in before.items() if name not in gone}, **done["enforced"]}
