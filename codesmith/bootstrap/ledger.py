"""The node's install ledger: lists what prepare makes there, so that it can be checked and removed exactly.

It is written before the first change, so that what a crash leaves behind is listed too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap.door import has_folder
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.step import Step
from codesmith.bootstrap.uids import ranges

FORMAT = 1


def plan_ledger(facts: Facts, desired: layout.Desired, steps: Sequence[Step]) -> list[Step]:
    """Return the step that writes what the node will have into its ledger; none if the ledger says so already."""
    node_id = facts.node_id or desired.new_node_id
    entries = _entries(facts, desired, steps)
    wanted = {"format": FORMAT, "node_id": node_id, "uids": ranges(facts), "entries": entries}
    there = facts.files.get(layout.LEDGER)
    fits = there is not None and (there["mode"], there["owner"], there["group"]) == (0o644, "root", "root")
    if facts.ledger == wanted and fits:
        return []
    text = json.dumps(wanted, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    order = {"do": "write", "path": layout.LEDGER, "text": text, "sha256": digest, "mode": 0o644}
    before = f"{len(facts.ledger_entries)} entries" if there else "missing"
    after = f"{len(entries)} entries"
    return [Step("ledger", layout.LEDGER, "write down what prepare makes on this node", before, after, order)]


def _entries(facts: Facts, desired: layout.Desired, steps: Iterable[Step]) -> list[dict[str, Any]]:
    known = {_key(entry): entry for entry in facts.ledger_entries}
    wanted = [*_accounts(desired, steps), *_paths(desired), *_files(facts, desired)]
    entries = {_key(entry): {**entry, "made_by_us": _is_ours(entry, facts, known)} for entry in wanted}
    # Earlier releases that still exist, packages, and the logins of other operators stay in the ledger.
    kept = {key: entry for key, entry in known.items() if key not in entries and _is_kept(entry, facts)}
    return sorted([*kept.values(), *entries.values()], key=_key)


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return str(entry.get("kind")), str(entry.get("name") or entry.get("path"))


def _is_kept(entry: dict[str, Any], facts: Facts) -> bool:
    path = str(entry.get("path", ""))
    return entry.get("kind") in ("package", "member") or any(
        path == folder or path.startswith(folder + "/") for folder in facts.releases
    )


def _is_ours(entry: dict[str, Any], facts: Facts, known: dict[tuple[str, str], dict[str, Any]]) -> bool:
    """Tell whether prepare makes it: the ledger said so before, or it does not exist yet.

    If node.json exists without a ledger, prepare made it too: prepare alone writes node.json, after the ledger.
    """
    before = known.get(_key(entry))
    if before is not None:
        return bool(before.get("made_by_us"))
    if facts.ledger is None and isinstance(facts.node, dict) and facts.node.get("node_id"):
        return True
    kind, name = _key(entry)
    tables = {"group": facts.groups, "user": facts.users}
    return not tables.get(kind, facts.files).get(name)


def _accounts(desired: layout.Desired, steps: Iterable[Step]) -> list[dict[str, Any]]:
    packages = [name for step in steps if step.kind == "package" for name in step.name.split(", ")]
    members = [step.name for step in steps if step.kind == "member"]
    return [
        *({"kind": "package", "name": name} for name in (*desired.installed, *packages)),
        *({"kind": "group", "name": name} for name in layout.GROUPS),
        {"kind": "user", "name": layout.USER},
        *({"kind": "member", "name": name, "group": layout.CLIENTS} for name in members),
    ]


def _paths(desired: layout.Desired) -> list[dict[str, Any]]:
    directories = [*layout.DIRECTORIES, *desired.release_directories, layout.Owned(desired.program, 0o755)]
    # The node changes these three with each switch, so their targets are left open.
    links = (layout.CURRENT, layout.PREVIOUS, layout.FALLBACK)
    return [
        *({"kind": "directory", "path": entry.path, **_ownership(entry)} for entry in directories),
        # Its id belongs to the node, so the content is left open.
        {"kind": "file", "path": layout.NODE, **_ownership(layout.Owned(layout.NODE, 0o644))},
        {"kind": "file", "path": layout.UIDS, **_ownership(layout.Owned(layout.UIDS, 0o644))},
        *(
            {"kind": "file", "path": path, "sha256": digest, **_ownership(layout.Owned(path, 0o644))}
            for path, digest in {**desired.unit_digests, desired.agent: desired.sha256}.items()
        ),
        *({"kind": "link", "path": path} for path in links),
        *({"kind": "link", "path": path, "target": target} for path, target in layout.UNIT_LINKS.items()),
    ]


def _files(facts: Facts, desired: layout.Desired) -> list[dict[str, Any]]:
    """Return the entries of the files outside of the releases; the node itself decides what the door's state is."""
    files = [one for one in desired.files.values() if one.path != door_files.SSHD_SETTINGS or has_folder(facts)]
    state = [{"kind": "file", "path": door_files.STATE, **_ownership(layout.Owned(door_files.STATE, 0o644))}]
    return [
        *(
            {"kind": "file", "path": one.path, "sha256": one.sha256, **_ownership(layout.Owned(one.path, one.mode))}
            for one in files
        ),
        *(state if files else []),
    ]


def _ownership(entry: layout.Owned) -> dict[str, str]:
    return {"mode": f"{entry.mode:04o}", "owner": f"{entry.owner}:{entry.group}"}
