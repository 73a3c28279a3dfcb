"""Releases (an agent and its units in one directory): which to install, make current, and remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.step import MISSING, Step, describe, write_order


def plan_release(facts: Facts, desired: layout.Desired) -> list[Step]:
    """Return the steps that install the desired release, make it current, and link its units into systemd."""
    agent = _agent(facts, desired)
    program = _program(facts, desired, is_new=bool(agent))
    return [*agent, *program, *_units(facts, desired), *_switch(facts, desired), *_unit_links(facts)]


def plan_switch(facts: Facts, target: str, what: str) -> Step:
    """Return the step that makes a release current; the node keeps the last one as fallback until this one answers."""
    order = {
        "do": "switch",
        "path": layout.CURRENT,
        "target": target,
        "fallback": layout.FALLBACK,
        "stores": layout.STORES,
    }
    there = facts.files.get(layout.CURRENT)
    return Step("link", layout.CURRENT, f"make {what} the current agent", describe(there), f"link to {target}", order)


def plan_prune(facts: Facts, desired: layout.Desired) -> list[Step]:
    """Return a step for each release that nothing runs from and that is neither the desired nor the previous one."""
    kept = {desired.release, previous_release(facts, desired), *facts.used_releases}
    return [
        Step("prune", folder, f"remove the older release {folder}", "there", MISSING, _prune(folder))
        for folder in facts.releases
        if folder not in kept
    ]


def previous_release(facts: Facts, desired: layout.Desired) -> str:
    """Return the release to roll back to once the desired one is current; empty if there is none."""
    fallback, current = target_of(facts, layout.FALLBACK), target_of(facts, layout.CURRENT)
    # While a switch is under way the current release has not answered, so it is no release to roll back to.
    found = fallback or current
    return found if found and found != desired.release else target_of(facts, layout.PREVIOUS)


def target_of(facts: Facts, path: str) -> str:
    """Return the target of a link; empty if `path` is no link."""
    there = facts.files.get(path)
    return str(there["target"]) if there and there["type"] == "link" else ""


def changed_units(facts: Facts, desired: layout.Desired) -> set[str]:
    """Return the units whose text, as systemd finds it now, differs from the desired one."""
    digests = desired.unit_digests
    return {
        name
        for name in desired.units
        if not _is_sha256(facts.files.get(f"{layout.UNIT_DIR}/{name}"), digests[layout.unit_of(desired.release, name)])
    }


def _prune(folder: str) -> dict[str, Any]:
    return {"do": "prune", "folder": folder, "ledger": layout.LEDGER, "if_used": False}


def _agent(facts: Facts, desired: layout.Desired) -> list[Step]:
    after, there = f"0644 root:root {desired.sha256[:12]}", facts.files.get(desired.agent)
    folders = [describe(facts.files.get(entry.path)) for entry in desired.release_directories]
    if describe(there) == after and _is_sha256(there, desired.sha256) and folders == ["0755 root:root"] * len(folders):
        return []
    order = {
        "do": "release",
        "folders": [entry.path for entry in desired.release_directories],
        "path": desired.agent,
        "sha256": desired.sha256,
        "mode": 0o644,
    }
    return [Step("release", desired.agent, f"install the agent {desired.version}", describe(there), after, order)]


def _program(facts: Facts, desired: layout.Desired, *, is_new: bool) -> list[Step]:
    """Plan to unpack and compile the agent, also where only one file of it differs."""
    there, after = facts.files.get(desired.program), "0755 root:root"
    before = describe(there)
    if before == after and not is_new:
        return []
    text = f"{'repair' if there and not is_new else 'unpack and compile'} the program of the agent {desired.version}"
    after = f"{after}, unpacked and compiled" if before == after else after
    return [Step("program", desired.program, text, before, after, {"do": "program", "path": desired.program})]


def _is_sha256(there: Mapping[str, Any] | None, wanted: str) -> bool:
    return there is not None and there.get("sha256") == wanted


def _units(facts: Facts, desired: layout.Desired) -> list[Step]:
    found = []
    for name, text in desired.units.items():
        path = layout.unit_of(desired.release, name)
        order = write_order(path, text)
        there, after = facts.files.get(path), f"0644 root:root {order['sha256'][:12]}"
        if describe(there) != after:
            sentence = f"repair {path}" if there else f"write {path}"
            found.append(Step("unit", name, sentence, describe(there), after, order))
    return found


def _switch(facts: Facts, desired: layout.Desired) -> list[Step]:
    if target_of(facts, layout.CURRENT) == desired.release:
        return []
    return [plan_switch(facts, desired.release, f"{desired.version} ({desired.sha256[:12]})")]


def _unit_links(facts: Facts) -> list[Step]:
    found = []
    for path, target in layout.UNIT_LINKS.items():
        if target_of(facts, path) != target:
            order = {"do": "link", "path": path, "target": target}
            before = describe(facts.files.get(path))
            found.append(Step("link", path, f"link {path} to the current release", before, f"link to {target}", order))
    return found
