"""Compare a node with its ledger and with the desired state of this CodeSmith; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.door import problems
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.plan import plan
from codesmith.bootstrap.session import Session, Tell
from codesmith.bootstrap.step import MISSING, Step, describe
from codesmith.errors import NotPrepared, Unsupported

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

# Links that exist only after an upgrade, or during one.
OPTIONAL = (layout.PREVIOUS, layout.FALLBACK)
# Something that others have added to one of our units; prepare leaves it alone.
DROP_IN = "drop-in"


@dataclass(frozen=True)
class Finding:
    """One thing on a node: `status` is ok, missing, changed, extra or unsupported."""

    kind: str
    name: str
    status: str
    expected: str
    found: str

    def to_dict(self) -> dict[str, str]:
        """Return it for people and programs."""
        return asdict(self)


def verify(node: Node, *, on_progress: Tell | None = None) -> list[Finding]:
    """Return all that prepare made on `node`, and how it is now; NotPrepared if it made nothing."""
    from codesmith.bootstrap.pack import pack

    desired = layout.desired_for(pack(), "", node.git_hosts)
    with Session(node, on_progress) as session:
        facts = session.probe_installed(desired)
    if not facts.ledger_entries and not facts.node_id:
        problem = f"{node.name} answers SSH but has no CodeSmith agent"
        raise NotPrepared(problem, hint=f"inv node.prepare --node {node.name}")
    return judge(facts, desired)


def judge(facts: Facts, desired: layout.Desired) -> list[Finding]:
    """Return drift first (what prepare would repair, what differs from the ledger), then what is as it should be."""
    try:
        drift = {_path(step): _finding(step) for step in plan(facts, desired)}
    except Unsupported as error:
        drift = {"": Finding("node", "support", "unsupported", "a node that can be prepared", error.problem)}
    entries = {str(entry.get("path") or entry.get("name")): entry for entry in facts.ledger_entries}
    others = [_compare(facts, name, entry) for name, entry in entries.items() if name not in drift]
    uids = [Finding("uids", "users", "changed", "nobody else's", one) for one in (facts.accounts or {}).get("uids", ())]
    # Prepare cannot repair these: they are in files that are not ours.
    door = [Finding("door", one["keyword"], "unsupported", one["fix"], one["problem"]) for one in problems(facts)]
    added = [Finding(DROP_IN, path, "extra", MISSING, "there") for path in facts.drop_ins]
    ordered = sorted([*uids, *door, *added, *others, *_units(facts, drift)], key=lambda one: one.status == "ok")
    return [*drift.values(), *ordered]


def _path(step: Step) -> str:
    return str(step.order.get("path", step.name))


def _finding(step: Step) -> Finding:
    absent = step.before in (MISSING, "not a member")
    status = "extra" if step.kind == "prune" else "missing" if absent else "changed"
    return Finding(step.kind, _path(step), status, step.after, step.before)


def _compare(facts: Facts, name: str, entry: Mapping[str, Any]) -> Finding:
    kind = str(entry.get("kind"))
    if "path" in entry:
        there = facts.files.get(name)
        found, expected = describe(there), _expected(entry, there)
        missing = there is None and name not in OPTIONAL
        status = "missing" if missing else "ok" if there is None or _is_as_recorded(entry, there) else "changed"
        return Finding(kind, name, status, expected, found)
    is_there = {
        "member": lambda: name in (facts.groups.get(entry.get("group", "")) or {}).get("members", ()),
        "group": lambda: bool(facts.groups.get(name)),
        "user": lambda: bool(facts.users.get(name)),
    }.get(kind, lambda: True)()
    wanted = "member" if kind == "member" else "installed" if kind == "package" else "there"
    return Finding(kind, name, "ok" if is_there else "missing", wanted, wanted if is_there else MISSING)


def _expected(entry: Mapping[str, Any], there: Mapping[str, Any] | None) -> str:
    """Describe a path as the ledger has it; what the ledger leaves open is taken from the node."""
    if entry["kind"] == "link":
        return f"link to {entry['target']}" if "target" in entry else describe(there)
    digest = str(entry.get("sha256") or (there or {}).get("sha256", ""))[:12] if entry["kind"] == "file" else ""
    return f"{entry.get('mode')} {entry.get('owner')}" + (f" {digest}" if digest else "")


def _is_as_recorded(entry: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return there["type"] == entry["kind"] and _expected(entry, there) == describe(there)


def _units(facts: Facts, drift: Mapping[str, Finding]) -> Iterator[Finding]:
    named = {name for one in drift.values() for name in one.name.split(", ")}
    for name in layout.ENABLED:
        if name not in named:
            state = facts.units.get(name, {}).get("ActiveState", "")
            yield Finding("service", name, "ok", "active", state)
