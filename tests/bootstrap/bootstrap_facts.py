"""Facts without a node: what a probe finds on a bare and on a prepared node."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.layout import Desired
from codesmith.bootstrap.plan import plan

SHA256 = "ab" * 32
DESIRED = Desired(
    SHA256,
    "1.2.3",
    {name: f"[Unit]\nDescription={name}\n" for name in layout.UNITS},
    "the-new-id",
    formats={"state": 2, "helper": 2},
    files=door_files.door_files(),
)
ROOT_FILE = {"type": "file", "mode": 0o644, "owner": "root", "group": "root"}
ROOT_DIRECTORY = {"type": "directory", "mode": 0o755, "owner": "root", "group": "root"}
LINK = {"type": "link", "mode": 0o777, "owner": "root", "group": "root"}

BARE: dict[str, Any] = {
    "login": "ops",
    "os": {"id": "debian", "version_id": "12"},
    "arch": "x86_64",
    "pid1": "systemd",
    "systemd_runs": True,
    "systemd": "systemd 252 (252.39-1~deb12u1)",
    "python": [3, 11, 2],
    "has_sqlite": True,
    "manager": "apt-get",
    "missing_commands": [],
    "users": {"codesmith": None},
    "groups": {"codesmith": None, "codesmith-clients": None, "codesmith-logins": None},
    "files": {door_files.SSHD_FOLDER: {**ROOT_DIRECTORY}},
    "units": {name: {"ActiveState": "inactive", "UnitFileState": ""} for name in layout.UNITS},
    "spaces": {path: {"free_bytes": 10**10, "read_only": False, "noexec": False} for path in layout.SPACES},
    "ledger": None,
    "node": None,
    "agent": None,
}


def prepared() -> dict[str, Any]:
    """Return what a probe finds after a prepare of BARE."""
    ledger = next(step for step in plan(Facts.from_json(BARE), DESIRED) if step.kind == "ledger")
    files = {entry.path: _directory(entry) for entry in (*layout.DIRECTORIES, *DESIRED.release_directories)}
    files |= {path: {**ROOT_FILE, "sha256": digest} for path, digest in DESIRED.unit_digests.items()}
    for path, target in layout.UNIT_LINKS.items():
        digest = DESIRED.unit_digests[layout.unit_of(DESIRED.release, path.rpartition("/")[2])]
        files[path] = {**LINK, "target": target, "sha256": digest}
    files |= {entry.path: {**_directory(entry), "type": "other"} for entry in layout.SOCKETS.values()}
    files[DESIRED.program] = _directory(layout.Owned(DESIRED.program, 0o755))
    files[DESIRED.agent] = {**ROOT_FILE, "sha256": SHA256}
    files[layout.CURRENT] = {**LINK, "target": DESIRED.release}
    files[door_files.SSHD_FOLDER] = {**ROOT_DIRECTORY}
    files |= {one.path: {**ROOT_FILE, "mode": one.mode, "sha256": one.sha256} for one in DESIRED.files.values()}
    files[door_files.STATE] = {**ROOT_FILE, "sha256": "any"}
    files[layout.NODE] = files[layout.UIDS] = files[layout.LEDGER] = {**ROOT_FILE, "sha256": "any"}
    user = {"uid": 999, "group": "codesmith", "home": layout.STATE, "shell": layout.NOLOGIN, "groups": []}
    units = {name: {"ActiveState": "active", "UnitFileState": "enabled"} for name in layout.ENABLED}
    return deepcopy(BARE) | {
        "users": {"codesmith": user},
        "groups": {
            "codesmith": {"members": []},
            "codesmith-clients": {"members": ["ops"]},
            "codesmith-logins": {"members": []},
        },
        "files": files,
        "releases": [DESIRED.release],
        "units": units | {layout.HELPER_SERVICE: {"ActiveState": "inactive", "UnitFileState": "static"}},
        "ledger": json.loads(ledger.order["text"]),
        "formats": dict.fromkeys(layout.STORES, 2),
        "node": {"node_id": "the-new-id"},
        "uid_ranges_file": [[1879048192, 2147483646]],
        "accounts": {"drift": {}, "uids": []},
        "door": {"open": True, "problems": []},
        "agent": {"agent": "1.2.3", "build": SHA256, "node_id": "the-new-id"},
    }


def _directory(entry: layout.Owned) -> dict[str, Any]:
    return {"type": "directory", "mode": entry.mode, "owner": entry.owner, "group": entry.group}
