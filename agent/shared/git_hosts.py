"""Hosts that the operator's clones may reach although they are on the node itself: /etc/codesmith/git_hosts."""

from __future__ import annotations

from typing import List

from agent.shared import host_lists

FILE = "/etc/codesmith/git_hosts"
BYTES_MAX = 65536


def read(path: str = FILE) -> List[str]:
    """Return the hosts that the node's administrator lists, one a line; a line that is none is left out."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(BYTES_MAX).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        text = line.partition("#")[0].strip()
        try:
            found.append(host_lists.parse(text).text)
        except ValueError:
            continue
    return found[: host_lists.ENTRIES_MAX]
