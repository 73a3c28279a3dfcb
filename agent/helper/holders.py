"""Which inodes processes hold: by an open descriptor or by a mapping. Looks only."""

from __future__ import annotations

import os
from typing import Iterator, List, Set


def held_inodes() -> Set[int]:
    """Return the numbers of all inodes that processes other than root's hold open or mapped.

    Without the device, which the kernel tells differently in different places: an inode too many does no harm here.
    """
    found: Set[int] = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and not _is_roots(pid):
            found.update(_opened(pid))
            found.update(_mapped(pid))
    return found


def _is_roots(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return any(line.split()[1:] == ["0"] * 4 for line in file if line.startswith("Uid:"))
    except OSError:
        return True  # gone


def _opened(pid: str) -> Iterator[int]:
    # Threads may have descriptors of their own (unshare CLONE_FILES).
    for thread in _list(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        for descriptor in _list(f"{folder}/fd"):
            try:
                yield _inode_of(f"{folder}/fdinfo/{descriptor}") or os.stat(f"{folder}/fd/{descriptor}").st_ino
            except OSError:
                continue


def _inode_of(fdinfo: str) -> int:
    """Return the inode that the kernel (5.14 and later) names: no file system, which may hang, is asked."""
    with open(fdinfo, encoding="utf-8", errors="replace") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("ino:")), 0)


def _mapped(pid: str) -> Iterator[int]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                inode = line.split(None, 5)[4]
                if inode != "0":
                    yield int(inode)
    except OSError:
        return


def _list(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
