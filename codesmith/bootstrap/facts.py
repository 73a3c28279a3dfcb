"""The facts that a probe found on a node, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

RELEASE = re.compile(r"/[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Facts:
    """What one probe found. If `python` is None or too old, only what plain sh can find is filled in."""

    login: str = "root"
    hostname: str = ""
    os: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    arch: str = ""
    pid1: str = ""
    systemd_runs: bool = False
    systemd: str = ""
    python: tuple[int, ...] | None = None
    has_sqlite: bool = False
    manager: str = ""
    missing_commands: tuple[str, ...] = ()
    users: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    releases: tuple[str, ...] = ()
    # Those that a process runs from: an upgrade ends no runtime.
    used_releases: tuple[str, ...] = ()
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    spaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # The names of its workspaces and users, if the probe asked or they are of an earlier format; {"error": [why]} if
    # the helper's ledger is unreadable.
    residents: Mapping[str, tuple[str, ...] | list[str]] = field(default_factory=dict)
    # The format of each store that exists there, by its path.
    formats: Mapping[str, int] = field(default_factory=dict)
    ledger: Any = None
    # The node has a ledger and no Python to read it: what prepare made there is unknown.
    is_ledger_unread: bool = False
    node: Any = None
    # Which uids and gids exist there and which are taken (on_node/ids.py); the ranges in the node's uids.json.
    ids: Mapping[str, Any] = field(default_factory=dict)
    uid_ranges_file: Any = None
    # What the installed agent reports about the accounts of users: `drift` by login, which it can repair, and `uids`,
    # which it cannot; None if no agent there reports it, or the login may not ask.
    accounts: Mapping[str, Any] | None = None
    # What the installed agent reports about sshd and logins of users (`open`, `problems`); None if none there does.
    door: Mapping[str, Any] | None = None
    agent: Mapping[str, Any] | None = None
    # What workspaces need, from the agent's list: name, purpose, status, detail, fix, packages.
    needs: tuple[Mapping[str, Any], ...] = ()
    # What the probe could not read (a path, "units", "systemd", "process 1"), and why: it may exist or not.
    unseen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Facts:
        """Return the facts in a probe's JSON; unknown keys are ignored."""
        known = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        for name in ("python", "missing_commands", "needs", "releases", "used_releases"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        # Folders whose name is not one of a release are not ours to remove.
        known["releases"] = tuple(path for path in known.get("releases", ()) if RELEASE.search(path))
        return cls(**known)

    @property
    def systemd_version(self) -> int:
        """Return the version number from `systemctl --version`; 0 if there is none."""
        words = self.systemd.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    @property
    def drop_ins(self) -> list[str]:
        """Return the drop-ins that others have added to our units; those for all units belong to the system."""
        found = [(name, path) for name, unit in self.units.items() for path in unit.get("DropInPaths", "").split()]
        return [path for name, path in found if f"/{name}.d/" in path]

    @property
    def ledger_entries(self) -> list[dict[str, Any]]:
        """Return the entries of the node's ledger; none if it is missing or damaged."""
        entries = self.ledger.get("entries", []) if isinstance(self.ledger, dict) else []
        return [entry for entry in entries if isinstance(entry, dict)]

    @property
    def uid_ranges(self) -> list[list[int]]:
        """Return the ranges of uids for users, the one for new users first; from uids.json, else from the ledger."""
        for found in (self.uid_ranges_file, self.ledger.get("uids") if isinstance(self.ledger, dict) else None):
            if found and isinstance(found, list) and all(_is_range(one) for one in found):
                return found
        return []

    @property
    def node_id(self) -> str | None:
        """Return the node's id from node.json, else from the ledger; None if neither has one."""
        for source in (self.node, self.ledger):
            found = source.get("node_id") if isinstance(source, dict) else None
            if isinstance(found, str) and found:
                return found
        return None


def _is_range(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(isinstance(one, int) for one in found)
