"""/etc of the runtimes: links to the node's /etc, but for passwd and group, which each runtime has of its own.

A file that is mounted over the node's /etc/passwd disappears when the node's is replaced, as useradd does (tried: the
kernel removes mounts on a file that is renamed over). So the directory is ours too.
"""

from __future__ import annotations

import os
from typing import Dict

from agent.shared.names import RUNTIMES

NODES = "/etc"
PLACE = f"{RUNTIMES}/.etc"
# Where the node's /etc is in a runtime: as deep as the true one, so that relative links in it lead where they should,
# and no place for a disk of workspaces.
BESIDE = "/boot"
OURS = ("passwd", "group")


def refresh(place: str = PLACE, nodes: str = NODES) -> None:
    """Make the directory of links, or bring it up to date: running runtimes see it too."""
    os.makedirs(place, mode=0o755, exist_ok=True)
    os.chmod(place, 0o755)  # noqa: S103  the helper's umask has taken the others' bits
    for name in OURS:
        os.close(os.open(f"{place}/{name}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    wanted, there = _links(nodes), _links_in(place)
    for name in there.keys() - wanted.keys():
        os.unlink(f"{place}/{name}")
    for name, target in wanted.items():
        if there.get(name) != target:
            os.symlink(target, f"{place}/.new")
            os.replace(f"{place}/.new", f"{place}/{name}")


def _links(nodes: str) -> Dict[str, str]:
    """Return the link for each entry of the node's /etc; a link stays what it is."""
    links = {}
    for name in os.listdir(nodes):
        if name not in OURS:
            path = f"{nodes}/{name}"
            links[name] = os.readlink(path) if os.path.islink(path) else f"{BESIDE}/{name}"
    return links


def _links_in(place: str) -> Dict[str, str]:
    return {name: os.readlink(f"{place}/{name}") for name in os.listdir(place) if os.path.islink(f"{place}/{name}")}
