"""Removes nodes, complete or half made, so that nothing of them stays behind."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from pathlib import Path

from codesmith.lab import bridge, cgroups, disk, network
from codesmith.lab.home import CLAIMS, lock, lock_folder, write_atomically
from codesmith.lab.processes import Process
from codesmith.lab.record import Record, Run
from codesmith.nodes.lab_home import lab_home


def claim_id(name: str, folder: Path) -> str:
    """Reserve an id for the node in `folder`: it names its namespace, veth, subnet, control group and machine.

    The caller must hold `claims_lock` until the node's record has the id.
    """
    for node_id in network.candidates(name):
        file = CLAIMS / f"{node_id}.json"
        if not file.exists() and not network.namespace(node_id).exists():
            write_atomically(file, json.dumps({"folder": str(folder)}))
            return node_id
    raise RuntimeError("every subnet of the lab is taken")


def claims_lock() -> contextlib.AbstractContextManager[None]:
    """Return a lock that keeps other processes from claiming ids and from reaping."""
    return lock(CLAIMS / "lock")


def switch_off(folder: Path, record: Record) -> None:
    """Kill the node's processes at once, as a power cut does."""
    (folder / "ssh_config").unlink(missing_ok=True)
    run = Run.read(folder)
    if run is not None:
        # The supervisor first: it would restart nspawn.
        if run.supervisor != Process.me():
            run.supervisor.send(signal.SIGKILL)
            run.supervisor.wait(10)
        run.nspawn.send(signal.SIGKILL)
        run.nspawn.wait(10)
    cgroups.kill(record.id)
    # A machine that boots has none: a service would seem to start that nobody has started.
    cgroups.remove(record.id)


def remove(folder: Path) -> None:
    """Remove the node in `folder` with all that belongs to it; nothing happens if it is gone."""
    record = Record.read(folder)
    _remove(folder)
    if record is not None and record.bridge:
        with claims_lock():
            bridge.sweep()


def _remove(folder: Path) -> None:
    """Remove the node in `folder`, and leave its bridge to `sweep`."""
    record = None
    with contextlib.suppress(FileNotFoundError), lock_folder(folder):
        record = Record.read(folder)
        if record is not None:
            switch_off(folder, record)
            release(record.id)
        disk.remove(folder)
    if record is not None and record.bridge:
        bridge.leave(folder, record)


def release(node_id: str) -> None:
    """Remove all that is named after an id, and release the id."""
    cgroups.kill(node_id)
    cgroups.remove(node_id)
    network.remove(node_id)
    for place in ("propagate", "unix-export"):
        with contextlib.suppress(OSError):
            shutil.rmtree(Path("/run/systemd/nspawn") / place / node_id)
    (CLAIMS / f"{node_id}.json").unlink(missing_ok=True)


def reap() -> list[str]:
    """Remove every node whose owner has ended, and what is left of half-made ones; return their names."""
    with claims_lock():
        reaped = [folder for file in sorted(CLAIMS.glob("*.json")) if (folder := _reap_claim(file))]
        # Nodes whose claim was lost when the machine restarted.
        for folder in folders():
            record = Record.read(folder)
            if record is None or record.is_orphan:
                _remove(folder)
                reaped.append(folder)
        bridge.sweep()
    return [folder.name for folder in reaped]


def _reap_claim(file: Path) -> Path | None:
    """Remove what belongs to a claim whose process has ended; return the node's folder if so.

    Claim and record are made under the lock that we hold, so a process that died left a claim without its record.
    """
    try:
        folder = Path(json.loads(file.read_text())["folder"])
    except FileNotFoundError:
        return None
    record = Record.read(folder)
    is_whole = record is not None and record.id == file.stem
    if record is not None and is_whole and not record.is_orphan:
        return None
    if not is_whole:
        release(file.stem)
    if record is None or is_whole:
        _remove(folder)
    return folder


def folders() -> list[Path]:
    """Return the folders of all nodes in this lab home."""
    return sorted(path for path in (lab_home() / "nodes").glob("*") if path.is_dir() and not path.name.startswith("."))
