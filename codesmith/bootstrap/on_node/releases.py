"""Switch to another release, roll back if it does not answer, remove old ones.

`current` is the release that runs, `previous` the one that answered before it. `fallback` exists while a switch is
under way: from before `current` changes until the new release has answered, or the old one runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from typing import Any

from codesmith.bootstrap.on_node.agent import wait_for_answer
from codesmith.bootstrap.on_node.commands import Failed, run
from codesmith.bootstrap.on_node.files import (
    ensure_directory,
    install_file,
    place_link,
    read_json,
    read_link,
    remove_link,
    sync_folder,
)
from codesmith.bootstrap.on_node.programs import COMPILED, differences, program_of, used_releases
from codesmith.bootstrap.on_node.unpack import do_program

VERSION_TIMEOUT_S = 60
READ_FORMAT = """
import sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
print(database.execute("PRAGMA user_version").fetchone()[0])
"""


def do_release(order: dict[str, Any], data: bytes) -> None:
    """Make the directories of a release and install the agent in it."""
    for folder in order["folders"]:
        ensure_directory(folder, 0o755)
        os.chown(folder, 0, 0)
        os.chmod(folder, 0o755)  # noqa: S103 (code that everyone may read)
    install_file(order["path"], data, order["sha256"], order["mode"])
    sync_folder(os.path.dirname(order["folders"][0]))


def do_switch(order: dict[str, Any]) -> None:
    """Make a release current; first `fallback` is set to the old one, so that the next run can roll back.

    An earlier release may be damaged by now, or compiled by an earlier Python: then it is unpacked again.
    """
    if differences(order["target"]):
        do_program({"path": program_of(order["target"])})
    _check_fit(order["target"], order["stores"])
    there = read_link(order["path"])
    if there and there != order["target"] and _is_whole(there) and not _is_whole(read_link(order["fallback"])):
        place_link(order["fallback"], there)
    place_link(order["path"], order["target"])


def do_units(order: dict[str, Any]) -> None:
    """Restart units that run something old and start stopped ones; then wait for the agent's answer."""
    since = time.time()
    restart(order["stop"], order["start"])
    if "answer" in order:
        wait_for_answer(**order["answer"], since=since)
        _finish_switch(order["links"])


def _finish_switch(links: dict[str, str]) -> None:
    """End a switch: `previous` becomes the release before, `fallback` is removed."""
    before = read_link(links["fallback"])
    if _is_whole(before) and before != read_link(links["current"]):
        place_link(links["previous"], before)
    remove_link(links["fallback"])


def roll_back(job: dict[str, Any]) -> dict[str, str]:
    """Make `fallback` current again and wait for its answer.

    Return {"rolled_back_to": version}, {"lost": why it does not run}, or {} if there is no fallback.
    """
    links = job["links"]
    target = read_link(links["fallback"])
    if not target:
        return {}
    try:
        place_link(links["current"], target)
        run(["systemctl", "enable", "--force", "--", *job["start"]])
        since = time.time()
        restart(job["stop"], job["start"])
        with open(f"{target}/agent.pyz", "rb") as file:
            build = hashlib.sha256(file.read()).hexdigest()
        found = wait_for_answer(job["socket"], job["unit"], build, since)
        remove_link(links["fallback"])
    except (Failed, OSError) as error:
        return {"lost": f"the previous release ({target}) does not run either: {error}"}
    return {"rolled_back_to": str(found.get("agent"))}


def restart(stop: list[str], start: list[str]) -> None:
    """Stop units and start units, also failed ones.

    Units in both lists get one `systemctl restart`: systemd completes it even if this program is killed.
    """
    again = [unit for unit in start if unit in stop]
    _systemctl("stop", [unit for unit in stop if unit not in again])
    if start:
        run(["systemctl", "reset-failed", "--", *start], allowed=(0, 1))
    _systemctl("restart", again)
    _systemctl("start", [unit for unit in start if unit not in again])


def _systemctl(verb: str, units: list[str]) -> None:
    if units:
        run(["systemctl", verb, "--", *units])


def do_prune(order: dict[str, Any]) -> str | None:
    """Remove an old release, then its lines in the ledger; one that a process runs from only with `if_used`."""
    folder = order["folder"]
    if not order["if_used"] and used_releases([folder]):
        return f"kept {folder}: a process runs from it"
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise Failed(f"{folder} cannot be removed")
    sync_folder(os.path.dirname(folder))
    ledger = read_json(order["ledger"])
    if ledger is None:
        return None
    ledger["entries"] = [entry for entry in ledger["entries"] if not _is_in(str(entry.get("path", "")), folder)]
    text = (json.dumps(ledger, indent=1) + "\n").encode()
    install_file(order["ledger"], text, hashlib.sha256(text).hexdigest(), 0o644)
    return None


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _is_whole(release: str) -> bool:
    parts = ("agent.pyz", "units", os.path.join("program", COMPILED))
    return bool(release) and all(os.path.exists(os.path.join(release, part)) for part in parts)


def _check_fit(release: str, stores: dict[str, str]) -> None:
    """Raise Failed if the release cannot run here, or does not know the format of a store."""
    answer = run(["/usr/bin/python3", "-I", "-S", program_of(release), "version"], VERSION_TIMEOUT_S)
    try:
        formats = json.loads(answer).get("formats", {})
    except (ValueError, AttributeError):
        raise Failed(f"its agent does not say which version it is: {answer[-300:]}") from None
    for path, name in stores.items():
        found = _format_of(path)
        known = formats.get(name, found)
        if found and found != known:
            which = "a newer" if found > known else "an earlier"
            raise Failed(f"{path} has format {found}, written by {which} agent; this one knows {known}")


def _format_of(path: str) -> int:
    """Return the format of a store; 0 if it is missing or unreadable.

    Read as the owner of its directory: root opens no database whose files another user controls.
    """
    try:
        owner = os.stat(os.path.dirname(path))
        if not os.path.exists(path):
            return 0
        argv = ["/usr/bin/python3", "-I", "-S", "-c", READ_FORMAT, path]
        return int(run(argv, VERSION_TIMEOUT_S, owner=(owner.st_uid, owner.st_gid)))
    except (Failed, OSError, ValueError):
        return 0
