"""Why a node cannot be prepared: all reasons at once, so that nobody has to find them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesmith.bootstrap import layout, uids
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.layout import MIB
from codesmith.errors import Unsupported

FAIL = "fail"
SAVED = "/root/codesmith-saved.tar.gz"


def refuse_unsupported(facts: Facts, desired: layout.Desired) -> None:
    """Return if the node can be prepared; else Unsupported with every reason."""
    reasons = [*_system(facts), *_python(facts), *_packages(facts), *_disk_space(facts), *_conflicts(facts, desired)]
    reasons += _needs(facts) if facts.systemd_runs else []
    reasons += filter(None, [uids.problem(facts), _earlier(facts, desired)])
    if reasons:
        fixes = [need["fix"] for need in _lacking(facts) if need["fix"]]
        hint = f"on the node, as root: {'; '.join(fixes)}" if fixes else ""
        raise Unsupported("; ".join(dict.fromkeys(reasons)), hint=hint)


def save_and_begin_anew(facts: Facts, desired: layout.Desired, name: str) -> str:
    """Return how to keep what an earlier CodeSmith has on node `name` and to begin anew; empty if there is no need."""
    if not _earlier(facts, desired):
        return ""
    pack = f"tar --create --gzip --file {SAVED} --directory {layout.BASE} workspaces home"
    save = f"on the node, as root: {pack}; copy that file away; then: " if any(facts.residents.values()) else ""
    purge = " --purge" if save else ""
    return f"{save}inv node.uninstall --node {name}{purge} --yes; inv node.prepare --node {name}"


def _earlier(facts: Facts, desired: layout.Desired) -> str:
    """Return what an earlier CodeSmith, whose stores this one does not read, has on the node; empty if nothing."""
    if not any(0 < there < desired.formats.get(layout.STORES[path], 0) for path, there in facts.formats.items()):
        return ""
    listed = ", ".join(f"{kind} {', '.join(names)}" for kind, names in facts.residents.items() if names)
    problem = f"it was prepared by an earlier CodeSmith, whose stores {desired.version} does not read"
    return f"{problem}; it has {listed}" if listed else problem


def missing_packages(facts: Facts) -> list[str]:
    """Return the missing packages, by their names in the node's package manager."""
    wanted = [_package(layout.COMMANDS[command], facts.manager) for command in facts.missing_commands]
    wanted += [_package(layout.PACKAGES[name], facts.manager) for need in facts.needs for name in need["packages"]]
    if facts.python is None or not facts.has_sqlite:
        wanted.append(_package(layout.PYTHON_PACKAGE, facts.manager))
    return sorted(set(wanted))


def _package(names: object, manager: str) -> str:
    return names if isinstance(names, str) else str(dict(names).get(manager, ""))  # type: ignore[call-overload]


def _system(facts: Facts) -> list[str]:
    found = []
    # hidepid may hide process 1; then /run/systemd/system decides, as in sd_booted(3).
    if facts.pid1 not in ("systemd", "") or not facts.systemd_runs:
        found.append(f"systemd does not run there (process 1 is {facts.pid1 or 'unknown'})")
    elif facts.systemd_version < layout.SYSTEMD_MIN:
        found.append(f"systemd {facts.systemd_version} is too old ({layout.SYSTEMD_MIN} or newer is needed)")
    if facts.arch not in layout.ARCHITECTURES:
        found.append(f"the architecture {facts.arch or 'unknown'} is not known ({', '.join(layout.ARCHITECTURES)} are)")
    return found


def _python(facts: Facts) -> list[str]:
    if facts.python is None or facts.python >= layout.PYTHON_MIN:
        return []
    version, least = (".".join(map(str, parts)) for parts in (facts.python, layout.PYTHON_MIN))
    return [f"/usr/bin/python3 is {version} ({least} or newer is needed)"]


def _packages(facts: Facts) -> list[str]:
    missing = list(facts.missing_commands)
    missing += [need["name"] for need in facts.needs if need["packages"] and need["name"] not in missing]
    if facts.python is None:
        missing.append("python3")
    elif facts.python >= layout.PYTHON_MIN and not facts.has_sqlite:
        missing.append("the sqlite3 module of python3")
    if not missing or facts.manager:
        return []
    return [
        f"{', '.join(missing)} missing, and there is no package manager to install with ({', '.join(layout.MANAGERS)})"
    ]


def _needs(facts: Facts) -> list[str]:
    """Return what workspaces need, the node lacks, and no package can bring."""
    return [str(need["detail"]) for need in _lacking(facts)]


def _lacking(facts: Facts) -> list[Mapping[str, Any]]:
    return [need for need in facts.needs if need["status"] == FAIL and not need["packages"]]


def _disk_space(facts: Facts) -> list[str]:
    found = []
    extra = layout.FREE_FOR_PACKAGES_BYTES if missing_packages(facts) else 0
    for path, least in layout.FREE_MIN_BYTES.items():
        space = facts.spaces.get(path, {})
        needed = least + (extra if path in layout.FOR_PACKAGES else 0)
        if space.get("free_bytes", needed) < needed:
            found.append(f"{path} has {space['free_bytes'] // MIB} MiB free ({needed // MIB} are needed)")
    for path in (layout.CODE, "/srv", "/var"):
        space = facts.spaces.get(path, {})
        if space.get("read_only"):
            found.append(f"{path} is on a read-only file system")
        elif space.get("noexec") and path != "/var":
            found.append(f"{path} is mounted noexec")
    return found


def _conflicts(facts: Facts, desired: layout.Desired) -> list[str]:
    """Return what is in the way of ours and was not made by prepare."""
    found = []
    ours = {(entry.get("kind"), entry.get("name")) for entry in facts.ledger_entries}
    user = facts.users.get(layout.USER)
    if user and ("user", layout.USER) not in ours and user["home"] != layout.STATE:
        found.append(f"a user {layout.USER} (uid {user['uid']}, home {user['home']}) exists and is not ours")
    for entry in layout.DIRECTORIES:
        there = facts.files.get(entry.path)
        if there and there["type"] != "directory":
            found.append(f"{entry.path} is a {there['type']}, not a directory")
    links = (layout.CURRENT, layout.PREVIOUS, layout.FALLBACK, *layout.UNIT_LINKS)
    for path in (desired.agent, layout.NODE, layout.UIDS, layout.LEDGER, *links):
        there = facts.files.get(path)
        if there and there["type"] == "directory":
            found.append(f"{path} is a directory")
    return found
