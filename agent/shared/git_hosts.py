"""Hosts that the operator's clones may reach although they are on the node itself: /etc/codesmith/git_hosts."""

from __future__ import annotations

from typing import List

from agent.shared import host_lists

FILE = "/etc/codesmith/git_hosts"
BYTES_MAX = 65536


def read(path: str = FILE) -> List[str]:
    """Return the hosts that the node's administrator lists, one a line; a line that is none is left out.

    Without a port it is every port: git comes by https, by ssh, and by ports of a forge's own.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(BYTES_MAX).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        text = line.partition("#")[0].strip()
        try:
            rule = host_lists.parse(text)
            found.append(rule.text if rule.port else rule._replace(port=host_lists.ANY_PORT).text)
        except ValueError:
            continue
    return found[: host_lists.ENTRIES_MAX]
