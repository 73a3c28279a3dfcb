"""The verb `sandbox.change`: limits and lists act on what runs; another mode of the network ends it.

The order is: the ledger, then the disk, then the running units, then the policy of the proxy and the facts inside. A
call that is made again after a crash finds the same target and does all of it again.
"""

from __future__ import annotations

import socket
from typing import Any, Dict, Tuple

from agent.helper import suspension
from agent.helper.ledger.ledger import Ledger
from agent.helper.ledger.lock import exclusive_ledger, read_ledger
from agent.helper.ledger.system_errors import pending_on_error
from agent.helper.runtime import disk_quota, egress, limits, live_limits, sandboxes, units
from agent.helper.runtime.entry import Entry, read_entry
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared.errors import AgentError, InUse, InvalidParams, NotFound
from agent.shared.names import parse_name


def change_sandbox(caller: socket.socket, workspace: Any, restart: Any, force: Any, **changes: Any) -> Dict[str, Any]:
    """Change limits and network of a sandbox while its runtime runs.

    Returns them, and in `enforced` those that were looked at: a service that runs shows its limits; where nothing runs,
    or the mode of the network changes, it is a look from inside.
    """
    workspace = parse_name(workspace, "workspace")
    for name, value in (("restart", restart), ("force", force)):
        if not isinstance(value, bool):
            raise InvalidParams.of(name, "must be true or false")
    with read_ledger() as ledger:
        entry, before = _read(ledger, workspace)
    sandbox = limits.change(before, **changes)
    changed = entry._replace(sandbox=sandbox)
    is_new_mode = _is_new_mode(before, sandbox)
    if is_new_mode:
        _check_ends(sandbox, "another network", restart=restart)
    is_looked_at = is_new_mode or (sandbox.limits != before.limits and not live_limits.processes(workspace))
    enforced = sandboxes.check_enforced(sandbox, units.probe(changed)) if is_looked_at else {}
    with exclusive_ledger() as ledger:
        if _read(ledger, workspace)[1] != before:
            raise InUse(f"the sandbox of workspace {workspace!r} was changed meanwhile", hint="try again")
        if is_new_mode:
            _check_ends(sandbox, "another network", restart=restart)
        if "disk_bytes" in sandbox.limits and not disk_quota.is_counted(entry):
            _check_ends(sandbox, "its first limit of disk", restart=restart)
        put(ledger, entry, sandbox, force=force)
        if is_new_mode:
            with pending_on_error():
                suspension.end_all(ledger, [workspace])
        else:
            try:
                enforced.update(live_limits.change(changed, sandbox, before, force=force))
            except AgentError:
                put(ledger, changed, before, force=True)
                raise
            egress.write_policy(sandbox)
            units.write_facts(changed)
    if "disk_bytes" in sandbox.limits:
        enforced["disk_bytes"] = True
    return {"limits": sandbox.limits, "network": sandbox.network, "enforced": enforced}


def put(ledger: Ledger, entry: Entry, sandbox: Sandbox, *, force: bool) -> None:
    """Record another sandbox for a workspace, and limit its disk as that says; when it cannot be, all is as before.

    The ledger names a limit before the file system has it, and until that has it no more: so none is forgotten.
    """
    limit, before = sandbox.limits.get("disk_bytes"), entry.sandbox
    if limit is None and before is not None and "disk_bytes" in before.limits:
        disk_quota.remove_limit(entry.workspace, entry.uid)
    ledger.put_sandbox(entry.workspace, sandbox.limits, sandbox.network)
    if limit is None:
        return
    try:
        if not disk_quota.is_counted(entry):
            suspension.end_all(ledger, [entry.workspace])
            disk_quota.count(entry)
        disk_quota.set_limit(entry, int(limit), force=force)
    except (AgentError, OSError):
        if before is None:
            ledger.remove_sandbox(entry.workspace)
        else:
            ledger.put_sandbox(entry.workspace, before.limits, before.network)
        raise


def _read(ledger: Ledger, workspace: str) -> Tuple[Entry, Sandbox]:
    entry = read_entry(ledger, workspace)
    if entry.sandbox is None:
        raise NotFound(f"workspace {workspace!r} has no sandbox", hint=f"inv sandbox.create {workspace}")
    return entry, entry.sandbox


def _is_new_mode(before: Sandbox, sandbox: Sandbox) -> bool:
    """Return whether what runs, or what the ledger says, has another mode of the network."""
    return sandbox.mode != before.mode or live_limits.mode_of(sandbox.workspace) not in (None, sandbox.mode)


def _check_ends(sandbox: Sandbox, what: str, *, restart: bool) -> None:
    """Raise InUse when more than the supervisor runs, which the change would end, and `restart` is not given."""
    if not restart and len(live_limits.processes(sandbox.workspace)) > 1:
        raise InUse(
            f"something runs in workspace {sandbox.workspace!r}, and {what} ends it",
            hint=f"use --restart, or first: inv workspace.stop {sandbox.workspace}",
            restart=True,
        )
