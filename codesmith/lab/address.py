"""The address of a lab node. This module stays light: it imports nothing that boots nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codesmith.lab.record import Record, Run
from codesmith.nodes.lab_home import lab_home, node_dir


@dataclass(frozen=True)
class LabAddress:
    """All that ssh needs to log in to a lab node, its host key included: the lab made it."""

    host: str
    port: int
    user: str
    identity: Path
    known_hosts: Path


def address_of(folder: Path, record: Record, user: str = "root") -> LabAddress:
    """Return the address of a node from its record, without any check."""
    return LabAddress(record.host, 22, user, folder.parent.parent / "id_ed25519", folder / "known_hosts")


def address(name: str) -> LabAddress:
    """Return the address of the lab node `name`; LabNodeDown if it is not switched on."""
    # Imported here: errors need Invoke (10 MB), which the supervisor of each node does without.
    from codesmith.errors import LabNodeDown

    hint = f"inv lab.up --node {name}"
    folder = node_dir(name)
    try:
        record, run = Record.read(folder), Run.read(folder)
        if record is not None and run is not None and run.is_alive:
            return address_of(folder, record)
    except PermissionError as error:
        raise LabNodeDown(f"lab node {name!r}: {lab_home()} belongs to root", hint="sudo -E " + hint) from error
    what = "has not been booted" if record is None else "is switched off"
    raise LabNodeDown(f"lab node {name!r} {what}", hint=hint)
