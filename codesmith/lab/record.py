"""The files that describe a node, so that any process can find it, use it and remove it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from codesmith.lab.home import write_atomically
from codesmith.lab.processes import Process


@dataclass(frozen=True)
class Record:
    """A node as it was made. `owner` is None if the node is kept until `lab.down`.

    With `uids` it is in a user namespace with that many uids, like an unprivileged container. `bridge` names the
    bridge that it shares with other nodes, "" if none, and `bridge_host` is its address there.
    """

    name: str
    release: str
    image: str
    id: str
    host: str
    gateway: str
    owner: Process | None
    uids: int = 0
    bridge: str = ""
    bridge_host: str = ""

    @property
    def is_orphan(self) -> bool:
        """Tell whether the process that it was made for has ended."""
        return self.owner is not None and not self.owner.is_alive

    def write(self, folder: Path) -> None:
        """Write it into the node's folder."""
        write_atomically(folder / "record.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """Return the record in a node's folder, None if there is none; unknown fields are ignored."""
        found = _read(folder / "record.json")
        if found is None:
            return None
        known = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        return cls(**{**known, "owner": Process.from_dict(found["owner"])})


@dataclass(frozen=True)
class Run:
    """The processes of a node that is switched on; `boots` counts its reboots since then."""

    supervisor: Process
    nspawn: Process
    boots: int

    @property
    def is_alive(self) -> bool:
        """Tell whether the node is switched on; true also while it reboots."""
        return self.supervisor.is_alive

    def write(self, folder: Path) -> None:
        """Write it into the node's folder."""
        write_atomically(folder / "run.json", json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Run | None:
        """Return the processes of a node that is, or last was, switched on; None if it never was."""
        found = _read(folder / "run.json")
        if found is None:
            return None
        return cls(Process(**found["supervisor"]), Process(**found["nspawn"]), int(found["boots"]))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
