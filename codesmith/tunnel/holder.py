"""Name the process that already has a local TCP port, as far as this user may know."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

# Addresses that are in the way of 127.0.0.1, as /proc/net/tcp and tcp6 write them: loopback, all, and both in IPv6.
IN_THE_WAY = ("0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F")
LISTENING = "0A"


def name_holder(port: int) -> str:
    """Return for example `python3 (pid 4711)`, or whose process it is, or that it is another process."""
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
    found = []
    for table in ("tcp", "tcp6"):
        for line in _lines(Path("/proc/net", table))[1:]:
            words = line.split()
            address, _, number = words[1].partition(":")
            if int(number, 16) == port and address in IN_THE_WAY and words[3] == LISTENING:
                found.append((int(words[7]), words[9]))
    return found


def _owner_of(inode: str) -> int | None:
    """Return a process that has the socket open; None if it is somebody else's."""
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(entry.readlink()) == wanted for entry in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue  # ended, or not ours to look into
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
