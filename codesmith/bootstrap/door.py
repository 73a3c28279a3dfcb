"""The steps that open, or shut, the door of people who have only a key."""

from __future__ import annotations

from typing import Any

from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.step import MISSING, Step, describe

SHUT = "the door of people who have only a key is shut"


def plan_files(facts: Facts, desired: layout.Desired) -> list[Step]:
    """Return the steps that write its files, but for the settings of sshd, which are checked as they are written."""
    found = []
    for path, file in desired.files.items():
        there = facts.files.get(path)
        if path == door_files.SSHD_SETTINGS or _is_as_planned(there, file):
            continue
        text = f"write {path}" if there is None else f"repair {path}"
        order: dict[str, Any] = {
            "do": "write",
            "path": path,
            "text": file.text,
            "sha256": file.sha256,
            "mode": file.mode,
        }
        if path == door_files.USER_UNIT:
            order["then"] = ["systemctl", "daemon-reload"]
        found.append(Step("file", path, text, describe(there), _as_written(file), order))
    if door_files.GIT_HOSTS not in desired.files and facts.files.get(door_files.GIT_HOSTS):
        order = {"do": "remove_file", "path": door_files.GIT_HOSTS}
        text, before = "allow git no host on the node's own addresses", describe(facts.files[door_files.GIT_HOSTS])
        found.append(Step("file", door_files.GIT_HOSTS, text, before, MISSING, order))
    return found


def plan_door(facts: Facts, desired: layout.Desired) -> list[Step]:
    """Return the step that writes the settings of sshd and opens the door if sshd then does what it must."""
    file = desired.files.get(door_files.SSHD_SETTINGS)
    if file is None:
        return []
    there, found = facts.files.get(file.path), facts.door
    is_written = _is_as_planned(there, file) or not has_folder(facts)
    state = facts.files.get(door_files.STATE)
    is_known = state is not None and describe(state).startswith("0644 root:root")
    # What only root can see is as it was.
    if is_written and is_known and (found is None or bool(found.get("open")) == (not problems(facts))):
        return []
    order = {
        "do": "door",
        "path": file.path,
        "text": file.text,
        "sha256": file.sha256,
        "mode": file.mode,
        "state": door_files.STATE,
        "program": layout.program_of(layout.CURRENT),
    }
    text = "have sshd lead users with a key into their workspaces"
    before = describe(there) if not is_written else "open" if found and found.get("open") else "shut"
    return [Step("door", file.path, text, before, "open, if sshd does what it must", order)]


def problems(facts: Facts) -> list[dict[str, str]]:
    """Return what sshd does not do as it must: keyword, problem and fix of each."""
    found = (facts.door or {}).get("problems", ())
    return [one for one in found if isinstance(one, dict) and {"keyword", "problem", "fix"} <= set(one)]


def shut_text(facts: Facts) -> str:
    """Return why the door is shut and what to do, in a line; empty if it is open."""
    found = [f"{one['problem']} ({one['fix']})" for one in problems(facts)]
    return f"{SHUT}, and the accounts stay closed: {'; '.join(found)}" if found else ""


def has_folder(facts: Facts) -> bool:
    """Tell whether sshd has a folder for settings of others; without one a file there would mean nothing."""
    there = facts.files.get(door_files.SSHD_FOLDER)
    return bool(there and there["type"] == "directory")


def _is_as_planned(there: Any, file: door_files.DoorFile) -> bool:
    return there is not None and describe(there) == _as_written(file) and there.get("sha256") == file.sha256


def _as_written(file: door_files.DoorFile) -> str:
    return f"{file.mode:04o} root:root {file.sha256[:12]}"
