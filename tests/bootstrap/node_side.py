"""Looks into a node without CodeSmith."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from codesmith.bootstrap import layout
from codesmith.lab import LabNode


def sh(node: LabNode, script: str) -> str:
    """Run a script on the node as root; it must succeed."""
    return node.run(["/bin/sh", "-euc", script]).stdout.strip()


def call(node: LabNode, method: str, **params: Any) -> Any:
    """Call the agent on the node itself and return the result."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    curl = f"curl -sS -m 20 --unix-socket {layout.SOCKET} -H content-type:application/json http://localhost/ -d"
    return json.loads(sh(node, f"{curl} '{body}'"))["result"]


def ask(node: LabNode) -> dict[str, Any]:
    """Return the result of node.version, called on the node."""
    return dict(call(node, "node.version"))


def ledger_of(node: LabNode) -> dict[str, Any]:
    """Return the node's install ledger."""
    return dict(json.loads(sh(node, f"cat {layout.LEDGER}")))


def sums_of(node: LabNode, paths: Collection[str]) -> dict[str, str]:
    """Return the SHA-256 of each of these files."""
    lines = sh(node, f"sha256sum {' '.join(paths)}").splitlines()
    return {path: found for found, path in (line.split() for line in lines)}


# Prints one line for everything in the given folders: path, kind, mode, owner, and content.
LISTING = """
import hashlib, os, stat, sys
def line(path):
    found = os.lstat(path)
    kind = stat.filemode(found.st_mode) + f" {found.st_uid}:{found.st_gid}"
    if stat.S_ISLNK(found.st_mode):
        return f"{path} {kind} {os.readlink(path)}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} {kind}"
    if path.startswith("/usr/"):  # large, and only we write there: times show every change
        return f"{path} {kind} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    return f"{path} {kind} {hashlib.sha256(open(path, 'rb').read()).hexdigest()}"
for top in sys.argv[1:]:
    print(line(top))
    for folder, folders, files in os.walk(top):
        here = os.lstat(folder).st_dev
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == here]
        for name in folders + files:
            try:
                print(line(os.path.join(folder, name)))
            except FileNotFoundError:
                pass
"""
# What systemd, sshd, logins and the account tools write by themselves.
OTHERS = re.compile(
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)- |/etc/\.pwd\.lock |/etc/ld\.so\.cache "
    r"|/run/(systemd|log|user|udev|sudo|utmp|lock|sshd|dbus|credentials|host|initctl|motd|mount|shm)\b"
    r"|/run/(agetty|systemd|lastlog|cloud)\S* |/var/lib/(systemd|dbus|private|lastlog|wtmpdb|sudo)\b"
)
PLACES = ("/etc", "/usr", "/srv", "/var/lib", "/var/log", "/run")


def listing(node: LabNode) -> set[str]:
    """Return a line for everything on the node, except what others write."""
    # Not /usr/bin/python3: a test may have replaced it.
    start = 'exec $(ls /usr/bin/python3.[0-9]* | head -n 1) -I -c "$@"'
    said = node.run(["sh", "-c", start, "sh", LISTING, *PLACES]).stdout
    return {line for line in said.splitlines() if not OTHERS.match(line) and "/journal" not in line}
