"""Name the process that already listens on a local TCP port, as far as this user can see it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

# Addresses that conflict with 127.0.0.1, as /proc/net/tcp and tcp6 write them: loopback, all, and both in IPv6.
CONFLICTING = ("0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F")
LISTENING = "0A"


def describe_owner(port: int) -> str:
    """Return for example `python3 (pid 4711)`; the user's name, or "another process", if no more is known."""
    for uid, inode in _listeners(port):
        pid = _owner_of(inode)
        if pid == os.getpid():
            return "this forwarder, for another node"
        if pid is not None:
            return f"{_program(pid)} (pid {pid})"
        return f"a process of {_user(uid)}"
    return "another process"


def _listeners(port: int) -> list[tuple[int, str]]:
    """Return uid and inode of every socket that listens on the port."""
    listeners = []
    for table in ("tcp", "tcp6"):
        for line in _lines(Path("/proc/net", table))[1:]:
            words = line.split()
            address, _, number = words[1].partition(":")
            if int(number, 16) == port and address in CONFLICTING and words[3] == LISTENING:
                listeners.append((int(words[7]), words[9]))
    return listeners


def _owner_of(inode: str) -> int | None:
    """Return the pid of a process that has the socket open; None if it belongs to another user."""
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(entry.readlink()) == wanted for entry in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue  # it ended, or belongs to another user
    return None


def _program(pid: int) -> str:
    return "".join(_lines(Path("/proc", str(pid), "comm"))) or "a process"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
