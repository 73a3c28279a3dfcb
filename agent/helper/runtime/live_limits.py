"""Limits of a runtime that is there: `systemctl set-property` on its service, and the settings of its next start."""

from __future__ import annotations

import json
import os
import time
from typing import Dict, List, Optional

from agent.helper.runtime import files, limits
from agent.helper.runtime.entry import Entry
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared import control_groups
from agent.shared.errors import Unsupported
from agent.shared.names import unit_of
from agent.shared.run import run

# What set-property writes; it outlives the unit, and counts for the next one of its name.
DROP_INS = "/run/systemd/system.control/{}.d"
# systemd answers before it writes to the control groups.
ATTEMPTS, PAUSE_S = 40, 0.05


def groups_of(workspace: str) -> Dict[str, str]:
    """Return the control groups of a workspace's runtime."""
    return control_groups.of_unit(unit_of(workspace, "service"), "codesmith-helper.service")


def processes(workspace: str) -> List[int]:
    """Return what runs in a workspace; one of them is the supervisor."""
    return control_groups.processes(groups_of(workspace))


def mode_of(workspace: str) -> Optional[str]:
    """Return the mode of the network that the runtime of a workspace was made with; None when none is there.

    A clone's runtime ends with it, and one of an older release does not say it: None too.
    """
    mode = files.read(f"{workspace}.json").get("network")
    return mode if mode in ("full", "none", "list") else None


def settle(entry: Entry) -> None:
    """Have a service that was just made obey its sandbox, where an earlier one of its name was changed."""
    if os.path.isdir(DROP_INS.format(unit_of(entry.workspace, "service"))):
        _set(entry.workspace, entry.sandbox.limits if entry.sandbox else {})


def change(entry: Entry, sandbox: Sandbox, before: Sandbox, *, force: bool) -> Dict[str, bool]:
    """Change the limits of a runtime, now and for its next starts; return those that its control groups show.

    InUse when it uses more now, unless `force`. Unsupported, and all is as before, when a limit is not seen there.
    """
    workspace = entry.workspace
    known = files.read(f"{workspace}.json")
    if not known:
        return {}
    groups = groups_of(workspace)
    if not force:
        limits.check_use(sandbox, before, groups)
    _set(workspace, sandbox.limits)
    found = _seen(workspace, sandbox.limits)
    missing = sorted(name for name, holds in found.items() if not holds)
    if missing:
        _set(workspace, before.limits)
        problem = f"this node cannot enforce: {', '.join(missing)}, while it runs"
        raise Unsupported(problem, hint=f"ask for less, or first: inv workspace.stop {workspace}", enforced=found)
    # Of a file that an older release has written, its supervisor must know every key.
    runtime_s = sandbox.limits.get("runtime_s")
    files.write(f"{workspace}.json", json.dumps({**known, "runtime_s": runtime_s}), 0o600)
    return {**found, **({} if runtime_s is None else {"runtime_s": True})}


def _seen(workspace: str, wanted: Dict[str, float]) -> Dict[str, bool]:
    """Return which limits the control groups show, once they do; nothing when nothing runs."""
    found: Dict[str, bool] = {}
    for _ in range(ATTEMPTS):
        if not processes(workspace):
            return {}
        found = limits.seen(wanted, groups_of(workspace))
        if all(found.values()):
            break
        time.sleep(PAUSE_S)
    return found


def _set(workspace: str, wanted: Dict[str, float]) -> None:
    words = ("show", "--property=DefaultTasksMax", "--value")
    tasks = "infinity" if "tasks" in wanted else run("systemctl", *words).stdout.strip()
    unit = unit_of(workspace, "service")
    run("systemctl", "set-property", "--runtime", "--", unit, *limits.properties(wanted, tasks))
