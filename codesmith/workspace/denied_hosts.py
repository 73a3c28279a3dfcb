"""Hosts that an allow-list has refused, and the command that allows each. Programs inside chose the names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

# A command is for pasting: whatever else a program asked for is shown without one.
HOST = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
ADDRESS_6 = r"[0-9a-f:]*:[0-9a-f:.]*"
USUAL_PORTS = (80, 443)


class Denied(Protocol):
    """A host that was refused, as sandbox.get and workspace.usage have it."""

    host: str
    port: int
    count: int
    last_at: str


def entry(host: str, port: int) -> str | None:
    """Return the entry of a list for a host and port; None when the host is none."""
    host = host.lower()
    if re.fullmatch(ADDRESS_6, host):
        return host if port in USUAL_PORTS else f"[{host}]:{port}"
    if not re.fullmatch(HOST, host):
        return None
    return host if port in USUAL_PORTS else f"{host}:{port}"


def notes(workspace: str, denied: Iterable[Denied]) -> list[str]:
    """Return a line for each refused host, with the command that allows it."""
    found = []
    for one in denied:
        times = "once" if one.count == 1 else f"{one.count} times"
        allowed = entry(one.host, one.port)
        command = f"; to allow it: inv sandbox.update {workspace} --allow {allowed}" if allowed else ""
        found.append(f"denied: {one.host}:{one.port}, {times}, last at {one.last_at}{command}")
    return found
