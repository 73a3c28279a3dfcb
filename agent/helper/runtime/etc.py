"""/etc of the runtimes: links to the node's /etc, but for passwd and group, which each runtime has of its own.

In profile.d, which login shells read, is one file of ours: it has `codesmith-job` in their PATH.

A file that is mounted over the node's /etc/passwd disappears when the node's is replaced, as useradd does (tried: the
kernel removes mounts on a file that is renamed over). So the directory is ours too.
"""

from __future__ import annotations

import os
from typing import Dict, List, Tuple

from agent.shared.names import RUNTIMES

NODES = "/etc"
PLACE = f"{RUNTIMES}/.etc"
# The same for runtimes whose only way out is a proxy, with a file for ssh.
BEHIND_PROXY = f"{RUNTIMES}/.etc-behind-proxy"
SSH, DROP_INS, FOR_SSH = "ssh", "ssh_config.d", "40-codesmith.conf"
# ssh takes the connection from the program, which ends: nobody copies.
SSH_CONFIG = """\
# CodeSmith: the network of this workspace is behind a proxy.
Host * !localhost !127.0.0.1 !::1
    ProxyCommand {} %h %p
    ProxyUseFdpass yes
"""
# Where the node's /etc is in a runtime: as deep as the true one, so that relative links in it lead where they should,
# and no place for a disk of workspaces.
BESIDE = "/boot"
OURS = ("passwd", "group")
# What the node has written down of CodeSmith itself: nothing inside needs it.
NOT_SHOWN = "codesmith"
HIDDEN = f"InaccessiblePaths=-{BESIDE}/{NOT_SHOWN}"
PROFILES, PROFILE = "profile.d", "codesmith.sh"
# /etc/profile gives login shells, as ssh starts them, a PATH of its own.
PATH_OF_PROGRAMS = """\
# codesmith-job: background work in this workspace
PATH="$PATH:$HOME/.local/state/codesmith/bin"
"""


def refresh(place: str = PLACE, nodes: str = NODES, without: Tuple[str, ...] = ()) -> None:
    """Make the directory of links, or bring it up to date: running runtimes see it too."""
    _make_folder(place)
    for name in OURS:
        os.close(os.open(f"{place}/{name}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    _refresh_links(place, _links(nodes, BESIDE, (*OURS, PROFILES, NOT_SHOWN, *without)))
    _refresh_profiles(f"{place}/{PROFILES}", f"{nodes}/{PROFILES}")


def refresh_behind_proxy(program: List[str], place: str = BEHIND_PROXY, nodes: str = NODES) -> None:
    """Make the directory of runtimes behind a proxy; `program` connects ssh to a host and a port."""
    refresh(place, nodes, (SSH,))
    for folder, own in ((SSH, DROP_INS), (f"{SSH}/{DROP_INS}", FOR_SSH)):
        _make_folder(f"{place}/{folder}")
        there = os.path.isdir(f"{nodes}/{folder}")
        _refresh_links(f"{place}/{folder}", _links(f"{nodes}/{folder}", f"{BESIDE}/{folder}", (own,)) if there else {})
    _write(f"{place}/{SSH}/{DROP_INS}/{FOR_SSH}", SSH_CONFIG.format(" ".join(program)), f"{place}/.new")


def _refresh_profiles(place: str, nodes: str) -> None:
    """Have the node's files for login shells, and one of our own beside them."""
    _make_folder(place)
    links = _links(nodes, f"{BESIDE}/{PROFILES}", (PROFILE,)) if os.path.isdir(nodes) else {}
    _refresh_links(place, links)
    if not os.path.exists(f"{place}/{PROFILE}"):
        _write(f"{place}/{PROFILE}", PATH_OF_PROGRAMS, f"{place}/.new")


def _write(path: str, text: str, temporary: str) -> None:
    with open(temporary, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    os.replace(temporary, path)


def _make_folder(place: str) -> None:
    if os.path.islink(place):  # of an earlier release
        os.unlink(place)
    os.makedirs(place, mode=0o755, exist_ok=True)
    os.chmod(place, 0o755)  # noqa: S103  the helper's umask has taken the others' bits


def _refresh_links(place: str, wanted: Dict[str, str]) -> None:
    there = _links_in(place)
    for name in there.keys() - wanted.keys():
        os.unlink(f"{place}/{name}")
    for name, target in wanted.items():
        if there.get(name) != target:
            os.symlink(target, f"{place}/.new")
            os.replace(f"{place}/.new", f"{place}/{name}")


def _links(nodes: str, beside: str, without: Tuple[str, ...]) -> Dict[str, str]:
    """Return the link for each entry of a directory of the node's; a link stays what it is."""
    links = {}
    for name in os.listdir(nodes):
        if name not in without:
            path = f"{nodes}/{name}"
            links[name] = os.readlink(path) if os.path.islink(path) else f"{beside}/{name}"
    return links


def _links_in(place: str) -> Dict[str, str]:
    return {name: os.readlink(f"{place}/{name}") for name in os.listdir(place) if os.path.islink(f"{place}/{name}")}
