"""Write sshd's settings for logins of users, and open the door only if sshd then does what it must.

Nothing here ends a session: sshd reads its settings again and keeps its sessions.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any

from codesmith.bootstrap.on_node.commands import Failed, run
from codesmith.bootstrap.on_node.files import install_file, remove_link

MAIN = "/etc/ssh/sshd_config"
# Debian's name, and that of others. One that a socket starts reads its settings each time.
UNITS = ("ssh.service", "sshd.service")
LISTENS_WITHIN_S = 10.0
PAUSE_S = 0.02
SHOWN_MAX = 5


def do_door(order: dict[str, Any]) -> str | None:
    """Write the settings if `sshd -t` accepts them, compare what sshd does, and write down whether the door is open.

    It is shut until sshd has read them, because nothing else shows that it has: whatever ends this in between, the next
    prepare does it again.
    """
    _note(order["state"], is_open=False)
    problem = _write_settings(order)
    found = [] if problem else _problems(order["program"])
    if not problem and not found:
        _note(order["state"], is_open=True)
        return None
    shown = [problem] if problem else [f"{one['problem']} ({one['fix']})" for one in found[:SHOWN_MAX]]
    return f"the door of people who have only a key is shut, and the accounts stay closed: {'; '.join(shown)}"


def _note(path: str, *, is_open: bool) -> None:
    text = (json.dumps({"open": is_open}) + "\n").encode()
    install_file(path, text, _sha256(text), 0o644)


def _write_settings(order: dict[str, Any]) -> str:
    """Have sshd read the settings, also those already in place; return why not, and then nothing is changed."""
    path, before = order["path"], _read(order["path"])
    if not os.path.isdir(os.path.dirname(path)):
        return ""
    try:
        _check_with(order["text"])
        install_file(path, order["text"].encode(), order["sha256"], order["mode"])
        try:
            run([_sshd(), "-t"])
            reload_sshd()
        except Failed:
            _put_back(path, before)
            raise
    except Failed as failed:
        said = (failed.stderr.splitlines() or [str(failed)])[-1]
        return f"{failed.command}: {said}; nothing of sshd was changed (on the node, as root: {failed.command})"
    return ""


def _check_with(text: str) -> None:
    """Raise Failed unless sshd accepts its settings, with ours behind them."""
    run([_sshd(), "-t"])
    with tempfile.NamedTemporaryFile("w", dir="/run", prefix="codesmith-sshd-") as file:
        file.write(f"Include {MAIN}\n{text}")
        file.flush()
        run([_sshd(), "-t", "-f", file.name])


def _put_back(path: str, before: bytes | None) -> None:
    if before is None:
        remove_link(path)
    else:
        install_file(path, before, _sha256(before), 0o644)


def _problems(program: str) -> list[dict[str, str]]:
    """Return what the installed agent finds that sshd does not do as it must."""
    try:
        found = json.loads(run(["/usr/bin/python3", "-I", "-S", program, "report"]))["door"]["problems"]
        return [{"problem": str(one["problem"]), "fix": str(one["fix"])} for one in found]
    except (Failed, ValueError, KeyError, TypeError) as error:
        return [{"problem": f"sshd could not be looked at: {error}", "fix": f"on the node: {program} report"}]


def reload_sshd() -> None:
    """Have sshd read its settings, and wait until it listens again: it starts itself anew for that."""
    for unit in UNITS:
        if run(["systemctl", "is-active", "--", unit], allowed=tuple(range(256))) == "active":
            before = _listening_sockets()
            run(["systemctl", "reload", "--", unit])
            deadline = time.monotonic() + LISTENS_WITHIN_S
            while before and time.monotonic() < deadline and len(_listening_sockets() - before) < 1:
                time.sleep(PAUSE_S)  # it tells nobody
            return


def _listening_sockets() -> set[str]:
    """Return the sockets that listen on sshd's ports."""
    ports = {line.split()[1] for line in run([_sshd(), "-T"]).splitlines() if line.startswith("port ")}
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        found |= {row[9] for row in rows if row[3] == "0A" and str(int(row[1].rpartition(":")[2], 16)) in ports}
    return found


def _sshd() -> str:
    return next(
        (path for path in ("/usr/sbin/sshd", "/sbin/sshd", "/usr/bin/sshd") if os.access(path, os.X_OK)), "sshd"
    )


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
