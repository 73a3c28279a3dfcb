"""Remove from a node exactly what prepare made there, as the node's ledger lists it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.layout import AGENT_SERVICE, HELPER_SERVICE, HELPER_SOCKET
from codesmith.bootstrap.session import Session, Tell, first_text
from codesmith.bootstrap.step import MISSING, Step, describe
from codesmith.errors import StepFailed

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

# Directories removed with all that agent and helper wrote there. From others only what prepare made is removed.
CONTENTS = (layout.STATE, layout.LOG, layout.HELPER_STATE, layout.KEYS_FOLDER, layout.LOGINS_FOLDER)
# Who reads a file of ours again after it is removed.
RELOADS = {door_files.SSHD_SETTINGS: "sshd", door_files.USER_UNIT: "systemd"}
# The sockets that lead to the agent; the helper's is another.
AGENT_SOCKETS = (layout.AGENT_SOCKET, layout.DOOR_SOCKET, layout.SCOPED_SOCKET)
# Files of the helper in a directory that others may use too; they are removed also where the directory stays.
HELPER_FILES = {"/srv/codesmith": (".next-uid",)}
# Where the helper writes the settings of runtimes.
RUNTIMES = "/run/codesmith/workspaces"
# The terminals of the runtimes: an instance of devpts.
PTYS, PTYS_UNIT = "/run/codesmith/pts", "run-codesmith-pts.mount"
# Of the runtimes of workspaces: systemd makes them with the first unit in them.
SLICES = ("codesmith.slice", r"system-codesmith\x2degress.slice", r"system-codesmith\x2dworkspace.slice")
# systemd makes the last two for the sockets and does not remove them with the sockets.
RUNTIME = (RUNTIMES, PTYS, "/run/codesmith", "/run/codesmith-egress", "/run/codesmith-helper")


@dataclass(frozen=True)
class Uninstalled:
    """A node after uninstall. With `plan_only` nothing was changed and `steps` is what would be done."""

    node: str
    steps: tuple[Step, ...]
    kept: tuple[str, ...]
    packages: tuple[str, ...]
    seconds: float


def uninstall(
    node: Node, *, purge: bool = False, plan_only: bool = False, on_progress: Tell | None = None
) -> Uninstalled:
    """Remove agent, units, accounts and directories from `node`; no steps when prepare made nothing there.

    StepFailed while workspaces or users exist, unless `purge`: then they are deleted first. Packages stay. Safe to run
    again, also after an interrupted run.
    """
    from codesmith.bootstrap.pack import pack

    desired = layout.desired_for(pack(), "")
    notes: list[str] = []
    retry = f"inv node.uninstall --node {node.name}{' --purge' if purge else ''}"
    with Session(node, _noting(notes, on_progress), retry=retry) as session:

        def probe_and_plan() -> tuple[Facts, list[Step]]:
            facts = session.probe_installed(desired, residents=True)
            steps = plan_uninstall(facts, node.name, purge=purge)
            session.say("probe", f"{len(steps)} steps to do" if steps else "nothing to do", first_text(steps))
            return facts, steps

        facts, steps = probe_and_plan()
        kept = _not_ours(facts) if steps else []
        packages = [str(entry.get("name")) for entry in facts.ledger_entries if entry.get("kind") == "package"]
        if not plan_only:
            steps = session.carry_out(facts, steps, probe_and_plan, then="finish")
        return Uninstalled(node.name, tuple(steps), (*kept, *notes), tuple(packages), session.seconds)


def _noting(notes: list[str], tell: Tell | None) -> Tell:
    """Return a Tell that also collects what the steps report as kept."""

    def note(progress: Any) -> None:
        if progress.ok and progress.message:
            notes.append(progress.message)
        if tell:
            tell(progress)

    return note


def plan_uninstall(facts: Facts, name: str, *, purge: bool) -> list[Step]:
    """Return the steps that remove everything of ours, the ledger last; none if there is nothing to remove."""
    if facts.files.get(layout.LEAVING):
        return [_plan_ledger(facts)]
    if not facts.ledger_entries:
        if facts.node_id or facts.files.get(layout.LEDGER) or facts.files.get(layout.CURRENT):
            problem = f"node {name}: its ledger {layout.LEDGER} is lost or damaged: what prepare made there is unknown"
            raise StepFailed(problem, hint=f"write it again first: inv node.prepare --node {name}")
        return []
    ours = [entry for entry in facts.ledger_entries if entry.get("made_by_us")]
    return [
        _plan_residents(facts, name, purge=purge),
        _plan_units(facts),
        *_plan_paths(facts, ours),
        *_plan_accounts(facts, ours),
        _plan_file(facts, layout.NODE, "node"),
        _plan_ledger(facts),
    ]


def _plan_residents(facts: Facts, name: str, *, purge: bool) -> Step:
    workspaces, users = (list(facts.residents.get(kind, ())) for kind in ("workspaces", "users"))
    if "error" in facts.residents and not purge:
        raise StepFailed(f"node {name}: {facts.residents['error'][0]}", hint=f"inv node.health --node {name}")
    there = "; ".join(
        f"{kind} {', '.join(names)}" for kind, names in (("workspaces", workspaces), ("users", users)) if names
    )
    if there and not purge:
        problem = f"node {name} is in use: {there}"
        hint = f"delete them and all their files: inv node.uninstall --node {name} --purge --yes"
        raise StepFailed(problem, hint=hint)
    order = {
        "do": "remove_residents",
        "purge": purge,
        "ledger": layout.HELPER_LEDGER,
        "stop": [AGENT_SERVICE, *AGENT_SOCKETS],
        "start": [*AGENT_SOCKETS, AGENT_SERVICE],
        "helper": HELPER_SOCKET,
        "socket": layout.HELPER_SOCKET_FILE,
    }
    text = (
        f"delete the {there.replace('; ', ' and the ')}"
        if there
        else "stop the agent; there are no workspaces or users"
    )
    return Step("resident", ", ".join([*workspaces, *users]) or "nobody", text, there or "nobody", "nobody", order)


def _plan_units(facts: Facts) -> Step:
    units = [AGENT_SERVICE, *AGENT_SOCKETS, HELPER_SERVICE, HELPER_SOCKET]
    states = [facts.units.get(name, {}).get("ActiveState", "") for name in units]
    left = [*SLICES, PTYS_UNIT]
    order = {"do": "remove_units", "units": units, "links": list(layout.UNIT_LINKS), "slices": left}
    listed = ", ".join(units)
    return Step("unit", listed, f"stop and remove {listed}", ", ".join(states), MISSING, order)


def _plan_paths(facts: Facts, ours: list[dict[str, Any]]) -> Iterator[Step]:
    """Plan files before the directories that hold them, and releases as a whole."""
    for folder in facts.releases:
        order = {"do": "prune", "folder": folder, "ledger": layout.LEDGER, "if_used": True}
        yield Step("release", folder, f"remove {folder}", "there", MISSING, order)
    later = (layout.NODE, layout.LEDGER, layout.CONFIG, *layout.UNIT_LINKS)
    for entry in sorted(ours, key=lambda entry: str(entry.get("path", "")), reverse=True):
        path = str(entry.get("path", ""))
        if not facts.files.get(path) or path in later or path.startswith(layout.RELEASES + "/"):
            continue
        if entry["kind"] == "directory":
            yield _plan_directory(path, describe(facts.files.get(path)), is_content_ours=path in CONTENTS)
        else:
            yield _plan_file(facts, path, str(entry["kind"]))
    kept = {str(entry.get("path", "")) for entry in facts.ledger_entries if not entry.get("made_by_us")}
    for path in (f"{folder}/{name}" for folder, names in HELPER_FILES.items() if folder in kept for name in names):
        yield Step("file", path, f"remove {path}", "there", MISSING, {"do": "remove_file", "path": path})
    for path in RUNTIME:
        yield _plan_directory(path, "there", is_content_ours=path == RUNTIMES)


def _plan_directory(path: str, before: str, *, is_content_ours: bool) -> Step:
    helper_files = list(HELPER_FILES.get(path, ()))
    order = {"do": "remove_directory", "path": path, "content": is_content_ours, "helper_files": helper_files}
    text = f"remove {path} with what agent and helper wrote there" if is_content_ours else f"remove {path}"
    return Step("directory", path, text, before, MISSING, order)


def _plan_file(facts: Facts, path: str, kind: str) -> Step:
    order = {"do": "remove_file", "path": path, "reload": RELOADS.get(path, "")}
    return Step(kind, path, f"remove {path}", describe(facts.files.get(path)), MISSING, order)


def _plan_accounts(facts: Facts, ours: list[dict[str, Any]]) -> Iterator[Step]:
    """Plan members of groups first, then users, then groups."""
    for kind in ("member", "user", "group"):
        for entry in ours:
            if entry.get("kind") == kind:
                yield _plan_account(facts, entry)


def _plan_account(facts: Facts, entry: Mapping[str, Any]) -> Step:
    kind, name = str(entry["kind"]), str(entry["name"])
    order = {"do": "remove_account", "kind": kind, "name": name, "group": entry.get("group", "")}
    if kind == "member":
        return Step(kind, name, f"take {name} out of the group {entry['group']}", "member", "not a member", order)
    there = (facts.users if kind == "user" else facts.groups).get(name)
    return Step(kind, name, f"remove the {kind} {name}", "there" if there else MISSING, MISSING, order)


def _plan_ledger(facts: Facts) -> Step:
    is_ours = any(entry.get("path") == layout.CONFIG and entry.get("made_by_us") for entry in facts.ledger_entries)
    order = {"do": "remove_ledger", "folder": layout.CONFIG, "leaving": layout.LEAVING, "ledger": layout.LEDGER}
    more = {"is_ours": is_ours or not facts.ledger_entries, "lock": layout.LOCK}
    return Step("ledger", layout.LEDGER, f"remove the ledger and {layout.CONFIG}", "there", MISSING, {**order, **more})


def _not_ours(facts: Facts) -> list[str]:
    """Return a line for each thing that was there before prepare and is kept."""
    names = [
        str(entry.get("path") or entry.get("name")) for entry in facts.ledger_entries if not entry.get("made_by_us")
    ]
    return [f"kept {name}: it was there before CodeSmith" for name in names]
