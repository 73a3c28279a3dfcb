"""Carry out a plan on a node under a lock: one order after the other, each result reported as a line of JSON.

Runs on the node as root: `python3 -I -S -c PROGRAM`. Standard input: a line of JSON {"orders", "expect", ...}, then the
agent, compressed. Every order may be repeated, so an interrupted prepare is simply run again.
"""

from __future__ import annotations

import fcntl
import grp
import hashlib
import json
import os
import pwd
import signal
import sys
import time
import zlib
from typing import Any, Callable

from codesmith.bootstrap.on_node.accounts import user_facts
from codesmith.bootstrap.on_node.commands import Failed, report, run
from codesmith.bootstrap.on_node.door import do_door
from codesmith.bootstrap.on_node.files import clear_temporaries, do_directory, do_link, do_write, read_json, read_link
from codesmith.bootstrap.on_node.releases import do_prune, do_release, do_switch, do_units, roll_back
from codesmith.bootstrap.on_node.removal import REMOVE, call_helper
from codesmith.bootstrap.on_node.unpack import do_program

LOCK = "/run/codesmith-prepare.lock"
PACKAGE_TIMEOUT_S = 900


def lock(timeout_s: int) -> None:
    """Hold the node's lock until this program ends, so that prepares take turns; Failed after `timeout_s`."""

    def late(_number: int, _frame: Any) -> None:
        raise Failed(f"another prepare has been at work for more than {timeout_s} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(timeout_s)
    while True:
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # An uninstall removes the file: a lock on a file without a name keeps nobody out.
        if os.path.exists(LOCK) and os.path.samestat(os.fstat(descriptor), os.stat(LOCK)):
            break
        os.close(descriptor)
    signal.alarm(0)


def do_run(order: dict[str, Any]) -> None:
    """Run a command, unless the accounts in `unless` exist."""
    if not is_there(order.get("unless", {})):
        run(order["argv"])


def do_user(order: dict[str, Any]) -> None:
    """Create or repair a user and read it back; a new one that is still wrong is removed. Failed if it is wrong."""
    is_new = not is_there({"user": order["name"]})
    if order["stop"]:
        run(["systemctl", "stop", "--", *order["stop"]])
    for argv in order["new"] if is_new else order["commands"]:
        run(argv)
    found = user_facts(order["name"]) or {}
    wrong = [f"in the group {name}" for name in found.get("groups", ())] + list(found.get("policy", ()))
    if wrong:
        if is_new:
            run(["userdel", "--", order["name"]])
        raise Failed(f"the account differs from what was asked for, and cannot be repaired: {'; '.join(wrong)}")


def is_there(accounts: dict[str, str]) -> bool:
    """Tell whether all named accounts (user or group) exist; False if none is named."""
    try:
        for kind, name in accounts.items():
            (grp.getgrnam if kind == "group" else pwd.getpwnam)(name)
    except KeyError:
        return False
    return bool(accounts)


def do_package(order: dict[str, Any]) -> None:
    """Install packages, refreshing the package lists only if that fails; start units that they need."""
    _install(order)
    if order["start"]:
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "start", "--", *order["start"]])


def _install(order: dict[str, Any]) -> None:
    try:
        run(order["install"], PACKAGE_TIMEOUT_S)
    except Failed as first:
        try:
            run(order["refresh"], PACKAGE_TIMEOUT_S)
        except Failed:
            raise first from None
        run(order["install"], PACKAGE_TIMEOUT_S)


def do_logins(order: dict[str, Any]) -> str | None:
    """Have the helper repair accounts, by its own verb."""
    run(["systemctl", "start", "--", order["helper"]])
    for name in order["names"]:
        call_helper(order["socket"], "user.put_right", name=name)
    return None


DO: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "directory": do_directory,
    "door": do_door,
    "link": do_link,
    "logins": do_logins,
    "package": do_package,
    "program": do_program,
    "prune": do_prune,
    "run": do_run,
    "switch": do_switch,
    "units": do_units,
    "user": do_user,
    "write": do_write,
    **REMOVE,
}
# A failure of one of these, or of any order after it, rolls back to the previous release.
SWITCHING = ("switch", "units")


def carry_out(number: int, order: dict[str, Any], data: bytes) -> bool:
    """Carry out one order and report the result; False if it failed."""
    begun = time.monotonic()
    failure: Exception | None = None
    note: str | None = None
    try:
        if order["do"] == "release":
            do_release(order, data)
        else:
            note = DO[order["do"]](order)
    except (Failed, OSError, KeyError) as error:
        failure = error
    line: dict[str, Any] = {"step": number, "ok": failure is None, "seconds": round(time.monotonic() - begun, 3)}
    if note:
        line["message"] = note
    if failure is not None:
        line.update(
            message=str(failure), command=getattr(failure, "command", ""), stderr=getattr(failure, "stderr", "")
        )
    report(**line)
    return failure is None


def is_as_expected(expect: dict[str, Any]) -> bool:
    """Tell whether the node is still as it was when the plan was made."""
    files, links = expect["files"], expect["links"]
    return all(read_json(path) == found for path, found in files.items()) and all(
        read_link(path) == target for path, target in links.items()
    )


def is_complete(orders: list[dict[str, Any]], data: bytes) -> bool:
    """Tell whether the agent arrived complete."""
    wanted = {order["sha256"] for order in orders if order["do"] == "release"}
    return wanted <= {hashlib.sha256(data).hexdigest()}


def main() -> int:
    """Carry out the orders on standard input; at the first failure stop, and roll back if a switch was under way.

    An account that cannot be repaired stops nothing.
    """
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # carry on if the connection is lost
    try:
        job = json.loads(sys.stdin.buffer.readline())
        data = sys.stdin.buffer.read()
        data = zlib.decompress(data) if data else b""
        if not is_complete(job["orders"], data):
            raise ValueError("the agent's checksum differs")
    except (ValueError, zlib.error) as error:
        report(refused=f"what was sent did not arrive whole; nothing was changed: {error}")
        return 1
    try:
        lock(job["lock_timeout_s"])
    except (Failed, OSError) as error:
        report(refused=str(error))
        return 1
    if not is_as_expected(job["expect"]):
        report(stale=True)
        return 0
    for folder in filter(os.path.isdir, job["folders"]):
        clear_temporaries(folder)
    current = job.get("fallback", {}).get("links", {}).get("current", "")
    before, is_switching, is_whole = read_link(current), False, True
    for number, order in enumerate(job["orders"]):
        is_switching = is_switching or order["do"] in SWITCHING
        if carry_out(number, order, data):
            continue
        is_whole = False
        # The accounts of others do not wait for one that cannot be repaired.
        if order["do"] != "logins":
            # Before `current` has changed there is nothing to roll back: the old release still runs.
            is_moved = order["do"] == "units" or read_link(current) != before
            report(**roll_back(job["fallback"]) if is_switching and is_moved else {})
            return 1
    if is_whole:
        report(done=True)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
