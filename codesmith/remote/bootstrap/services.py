"""Which units to reload, enable, stop and start."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from codesmith.remote.bootstrap import layout
from codesmith.remote.bootstrap.facts import Facts
from codesmith.remote.bootstrap.layout import AGENT_SERVICE, HELPER_SERVICE, SOCKETS
from codesmith.remote.bootstrap.step import Step

SERVICE_OF = {layout.AGENT_SOCKET: AGENT_SERVICE, layout.HELPER_SOCKET: HELPER_SERVICE}
# A change of one of these means that what runs is not what is installed.
STALE_AFTER = ("user", "release", "link")


def plan_services(
    facts: Facts, wish: layout.Wish, changed: Mapping[str, Step], changed_units: Collection[str]
) -> list[Step]:
    """Return the steps after which everything wanted is enabled and runs from what the other steps have installed."""
    disabled = [name for name in layout.ENABLED if _property(facts, name, "UnitFileState") != "enabled"]
    steps = []
    if disabled:
        text = f"start {', '.join(disabled)} at boot"
        order = {"do": "run", "argv": ["systemctl", "enable", "--", *disabled], "unless": {}}
        steps.append(Step("enable", ", ".join(disabled), text, "not enabled", "enabled", order))
    elif changed_units or _needs_reload(facts):
        order = {"do": "run", "argv": ["systemctl", "daemon-reload"], "unless": {}}
        steps.append(Step("reload", "systemd", "let systemd read its units again", "old units", "new units", order))
    return [*steps, *_starts(facts, wish, changed, changed_units)]


def _starts(facts: Facts, wish: layout.Wish, changed: Mapping[str, Step], changed_units: Collection[str]) -> list[Step]:
    stale = _stale(facts, wish, changed, changed_units)
    stop = sorted(stale, key=_services_first)
    inactive = {name for name in layout.ENABLED if _property(facts, name, "ActiveState") != "active"}
    start = sorted(inactive | (stale & set(layout.ENABLED)), key=_services_first, reverse=True)
    if not start and not stop:
        return []
    listed = ", ".join(start or stop)
    order = {"do": "units", "stop": stop, "start": start}
    if stop:
        text = f"restart {listed}" if start else f"stop {listed}, which its socket starts again"
        return [Step("service", listed, text, "running what was there before", "active", order)]
    return [Step("service", listed, f"start {listed}", "not active", "active", order)]


def _stale(facts: Facts, wish: layout.Wish, changed: Mapping[str, Step], changed_units: Collection[str]) -> set[str]:
    """Return the units that run something other than what is, or will be, installed."""
    found = set(changed_units)
    if any(kind in changed for kind in STALE_AFTER) or (
        facts.agent is not None and facts.agent.get("build") != wish.sha256
    ):
        found |= {AGENT_SERVICE, HELPER_SERVICE}
    for name, wanted in SOCKETS.items():
        there = facts.files.get(wanted.path)
        fits = there and (there["mode"], there["owner"], there["group"]) == (wanted.mode, wanted.owner, wanted.group)
        if not fits or "group" in changed:
            found.add(name)
    found |= {SERVICE_OF[name] for name in found if name in SERVICE_OF}
    running = {name for name in found if _property(facts, name, "ActiveState") not in ("", "inactive")}
    # The helper comes and goes by itself: no old one may meet the new agent.
    return running | (found & {HELPER_SERVICE} if AGENT_SERVICE in running else set())


def _services_first(name: str) -> tuple[bool, str]:
    return not name.endswith(".service"), name


def _needs_reload(facts: Facts) -> bool:
    return any(unit.get("NeedDaemonReload") == "yes" for unit in facts.units.values())


def _property(facts: Facts, unit: str, name: str) -> str:
    return facts.units.get(unit, {}).get(name, "")
