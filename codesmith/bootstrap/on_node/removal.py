"""Remove what prepare made. Every order may be repeated, so an interrupted uninstall is simply run again."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import socket
import struct
from typing import Any, Callable

from codesmith.bootstrap.on_node.commands import Failed, run
from codesmith.bootstrap.on_node.door import reload_sshd
from codesmith.bootstrap.on_node.files import clear_temporaries, remove_link, sync_folder
from codesmith.bootstrap.on_node.residents import read_residents

HELPER_TIMEOUT_S = 300
REMOVE_TIMEOUT_S = 300
SHOWN_MAX = 5


def do_remove_residents(order: dict[str, Any]) -> str | None:
    """Stop the agent, then check that no workspace or user exists; with `purge` the helper deletes them."""
    # Stopped first, so that no new ones are created meanwhile.
    run(["systemctl", "stop", "--", *order["stop"]], allowed=(0, 5))
    try:
        there = _residents(order["ledger"])
        if any(there.values()) and not order["purge"]:
            listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in there.items() if names)
            raise Failed(f"it is in use ({listed})")
        left = _purge(there, order) if any(there.values()) else []
    except (Failed, OSError):
        run(["systemctl", "start", "--", *order["start"]], allowed=(0, 5))
        raise
    return f"left behind: {', '.join(left)}" if left else None


def _residents(ledger: str) -> dict[str, list[str]]:
    try:
        return read_residents(ledger)
    except ValueError as error:
        raise Failed(str(error)) from error


def _purge(there: dict[str, list[str]], order: dict[str, Any]) -> list[str]:
    run(["systemctl", "start", "--", order["helper"]])
    left: list[str] = []
    for name in there["workspaces"]:
        left += call_helper(order["socket"], "workspace.remove", name=name, remove_user=False).get("leftovers", [])
    for name in there["users"]:
        left += call_helper(order["socket"], "user.remove", name=name).get("leftovers", [])
    return left


def call_helper(path: str, verb: str, **arguments: Any) -> dict[str, Any]:
    """Call one verb of the helper, framed as in agent/shared/framing.py; Failed with its error."""
    body = json.dumps({"verb": verb, "arguments": arguments}).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as helper:
            helper.settimeout(HELPER_TIMEOUT_S)
            helper.connect(path)
            helper.sendall(struct.pack(">I", len(body)) + body)
            with helper.makefile("rb") as answers:
                size = struct.unpack(">I", answers.read(4))[0]
                answer = json.loads(answers.read(size))
    except (OSError, ValueError, struct.error) as error:
        raise Failed(f"the helper did not answer: {error}", f"{verb} {arguments['name']}") from error
    if "error" in answer:
        raise Failed(str(answer["error"]["message"]), f"{verb} {arguments['name']}")
    return dict(answer["result"])


def do_remove_units(order: dict[str, Any]) -> None:
    """Stop and disable units, and remove systemd's links to them; then what they leave: slices and a mount."""
    run(["systemctl", "stop", "--", *order["units"]], allowed=(0, 5))
    run(["systemctl", "disable", "--", *order["units"]], allowed=(0, 1))
    for path in order["links"]:
        remove_link(path)
        clear_temporaries(os.path.dirname(path))
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "reset-failed", "--", *order["units"]], allowed=(0, 1))
    run(["systemctl", "stop", "--", *order["slices"]], allowed=(0, 5))


def do_remove_file(order: dict[str, Any]) -> None:
    """Remove one file or link, and have who read it read anew: sshd or systemd, as `reload` says."""
    is_there = os.path.lexists(order["path"])
    remove_link(order["path"])
    if is_there and order.get("reload") == "sshd":
        reload_sshd()
    if is_there and order.get("reload") == "systemd":
        run(["systemctl", "daemon-reload"])


def do_remove_directory(order: dict[str, Any]) -> str | None:
    """Remove a directory; with `content` all in it too, else only if nobody else has put anything there."""
    path = order["path"]
    if os.path.islink(path) or not os.path.isdir(path):
        return None
    if order["content"]:
        # The agent's user made its content, which may be deeper than shutil.rmtree can handle.
        run(["rm", "--recursive", "--force", "--one-file-system", "--", path], REMOVE_TIMEOUT_S)
    else:
        clear_temporaries(path)
        names = set(os.listdir(path)) - set(order["helper_files"])
        if names:
            more = ", ..." if len(names) > SHOWN_MAX else ""
            return f"kept {path}: it holds {', '.join(sorted(names)[:SHOWN_MAX])}{more}"
        for name in order["helper_files"]:
            remove_link(os.path.join(path, name))
        os.rmdir(path)
    sync_folder(os.path.dirname(path))
    return None


def do_remove_ledger(order: dict[str, Any]) -> str | None:
    """Remove the ledger and its directory in one step, so that the next uninstall finds all of it or nothing."""
    folder, leaving = order["folder"], order["leaving"]
    note = None
    if not os.path.lexists(leaving) and os.path.isdir(folder):
        clear_temporaries(folder)
        others = sorted(set(os.listdir(folder)) - {os.path.basename(order["ledger"])})
        if others or not order["is_ours"]:
            remove_link(order["ledger"])
            note = f"kept {folder}" + (f": it holds {', '.join(others[:SHOWN_MAX])}" if others else "")
        else:
            os.rename(folder, leaving)
    shutil.rmtree(leaving, ignore_errors=True)
    sync_folder(os.path.dirname(folder))
    remove_link(order["lock"])
    return note


def do_remove_account(order: dict[str, Any]) -> None:
    """Remove a user, a group, or a member of a group; nothing happens if it is gone."""
    kind, name = order["kind"], order["name"]
    try:
        if kind == "user":
            pwd.getpwnam(name)
            run(["userdel", "--", name])
        elif kind == "group":
            grp.getgrnam(name)
            run(["groupdel", "--", name])
        elif name in grp.getgrnam(order["group"]).gr_mem:
            run(["gpasswd", "--delete", name, order["group"]])
    except KeyError:
        pass


REMOVE: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "remove_account": do_remove_account,
    "remove_directory": do_remove_directory,
    "remove_file": do_remove_file,
    "remove_ledger": do_remove_ledger,
    "remove_residents": do_remove_residents,
    "remove_units": do_remove_units,
}
