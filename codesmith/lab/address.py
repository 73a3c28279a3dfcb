"""Where a lab node answers. Read on every resolve, so this module stays light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codesmith.errors import Unreachable
from codesmith.lab.home import lab_home, node_dir
from codesmith.lab.record import Record, Run


class LabNodeDown(Unreachable):
    """The lab node does not exist or is switched off."""


@dataclass(frozen=True)
class LabAddress:
    """All that ssh needs to enter a lab node, host key included: the lab made it."""

    host: str
    port: int
    user: str
    identity: Path
    known_hosts: Path


def address_of(folder: Path, record: Record, user: str = "root") -> LabAddress:
    """Return the address of a node from its record; nothing is checked."""
    return LabAddress(record.host, 22, user, folder.parent.parent / "id_ed25519", folder / "known_hosts")


def address(name: str) -> LabAddress:
    """Return where the lab node `name` answers; LabNodeDown if it is not switched on."""
    hint = f"inv lab.up --node {name}"
    folder = node_dir(name)
    try:
        record, run = Record.read(folder), Run.read(folder)
    except PermissionError as error:
        raise LabNodeDown(f"lab node {name!r}: {lab_home()} belongs to root", hint="sudo " + hint) from error
    if record is None:
        raise LabNodeDown(f"lab node {name!r} has not been booted", hint=hint)
    if run is None or not run.is_alive:
        raise LabNodeDown(f"lab node {name!r} is switched off", hint=hint)
    return address_of(folder, record)
