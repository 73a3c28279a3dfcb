"""The steps that reload, enable, stop and start units."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.layout import AGENT_SERVICE, HELPER_SERVICE, SOCKETS
from codesmith.bootstrap.releases import changed_units
from codesmith.bootstrap.step import Step

SERVICE_OF = {
    layout.AGENT_SOCKET: AGENT_SERVICE,
    layout.DOOR_SOCKET: AGENT_SERVICE,
    layout.SCOPED_SOCKET: AGENT_SERVICE,
    layout.HELPER_SOCKET: HELPER_SERVICE,
}
# A step of one of these kinds means that the running processes are older than what is installed.
STALE_AFTER = ("user", "release", "program", "link")
RUNNING_OLD = "running what was there before"


def plan_services(facts: Facts, desired: layout.Desired, changed: Mapping[str, Step]) -> list[Step]:
    """Return the steps after which all units are enabled and run what the other steps have installed.

    `changed` has those other steps by kind.
    """
    units = changed_units(facts, desired)
    disabled = [name for name in layout.ENABLED if _property(facts, name, "UnitFileState") != "enabled"]
    steps = []
    if disabled:
        text = f"start {', '.join(disabled)} at boot"
        names = layout.ENABLED if "link" in changed else disabled
        steps.append(Step("enable", ", ".join(disabled), text, "not enabled", "enabled", _enable(names)))
    elif "link" in changed:
        steps.append(plan_reload())
    elif units or _needs_reload(facts):
        order = {"do": "run", "argv": ["systemctl", "daemon-reload"], "unless": {}}
        steps.append(Step("reload", "systemd", "let systemd read its units again", "old units", "new units", order))
    return [*steps, *_starts(facts, desired, changed, units)]


def plan_reload() -> Step:
    """Return the step that makes systemd read the units of another release."""
    text = "let systemd read the units of that release"
    return Step("reload", "systemd", text, "old units", "new units", _enable(layout.ENABLED))


def plan_restart(build: str) -> Step:
    """Return the step that restarts all units and waits until this build answers."""
    stop, start = sorted(layout.UNITS, key=_services_first), sorted(layout.ENABLED, key=_services_first, reverse=True)
    listed = ", ".join(start)
    return Step("service", listed, f"restart {listed}", RUNNING_OLD, "active", _units(stop, start, build))


def fallback_job() -> dict[str, Any]:
    """Return what a node needs to roll back to its fallback release by itself."""
    order = plan_restart("").order
    links = {"current": layout.CURRENT, "fallback": layout.FALLBACK}
    found = {"stop": order["stop"], "start": order["start"], "links": links}
    return {**found, "socket": layout.SOCKET, "unit": AGENT_SERVICE}


def _enable(names: Sequence[str]) -> dict[str, Any]:
    # --force: systemd 252 and newer write the release's own path into the .wants directories. It also reloads.
    return {"do": "run", "argv": ["systemctl", "enable", "--force", "--", *names], "unless": {}}


def _units(stop: Sequence[str], start: Sequence[str], build: str) -> dict[str, Any]:
    order: dict[str, Any] = {"do": "units", "stop": list(stop), "start": list(start)}
    if AGENT_SERVICE in start:
        order["answer"] = {"path": layout.SOCKET, "unit": AGENT_SERVICE, "build": build}
        order["links"] = {name: getattr(layout, name.upper()) for name in ("current", "previous", "fallback")}
    return order


def _starts(facts: Facts, desired: layout.Desired, changed: Mapping[str, Step], units: Collection[str]) -> list[Step]:
    stale = _stale(facts, desired, changed, units)
    stop = sorted(stale, key=_services_first)
    inactive = {name for name in layout.ENABLED if _property(facts, name, "ActiveState") != "active"}
    if facts.files.get(layout.FALLBACK):
        inactive.add(AGENT_SERVICE)  # a switch was cut off: it ends when the agent answers
    start = sorted(inactive | (stale & set(layout.ENABLED)), key=_services_first, reverse=True)
    if not start and not stop:
        return []
    listed = ", ".join(start or stop)
    order = _units(stop, start, desired.sha256)
    if stop:
        text = f"restart {listed}" if start else f"stop {listed}, which its socket starts again"
        return [Step("service", listed, text, RUNNING_OLD, "active", order)]
    return [Step("service", listed, f"start {listed}", "not active", "active", order)]


def _stale(facts: Facts, desired: layout.Desired, changed: Mapping[str, Step], units: Collection[str]) -> set[str]:
    """Return the units that run something other than what the plan installs."""
    found = set(units)
    if any(kind in changed for kind in STALE_AFTER) or (
        facts.agent is not None and facts.agent.get("build") != desired.sha256
    ):
        found |= {AGENT_SERVICE, HELPER_SERVICE}
    for name, wanted in SOCKETS.items():
        there = facts.files.get(wanted.path)
        fits = there and (there["mode"], there["owner"], there["group"]) == (wanted.mode, wanted.owner, wanted.group)
        if not fits or "group" in changed:
            found.add(name)
    found |= {SERVICE_OF[name] for name in found if name in SERVICE_OF}
    running = {name for name in found if _property(facts, name, "ActiveState") not in ("", "inactive")}
    # The helper starts on demand: stop it, so that no old one serves the new agent.
    return running | (found & {HELPER_SERVICE} if AGENT_SERVICE in running else set())


def _services_first(name: str) -> tuple[bool, str]:
    return not name.endswith(".service"), name


def _needs_reload(facts: Facts) -> bool:
    return any(unit.get("NeedDaemonReload") == "yes" for unit in facts.units.values())


def _property(facts: Facts, unit: str, name: str) -> str:
    return facts.units.get(unit, {}).get(name, "")
