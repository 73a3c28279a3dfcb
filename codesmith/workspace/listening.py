"""At which ports inside a workspace nothing listens yet: what a forward of one says."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from codesmith.errors import CodeSmithError

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTENING = "0A"


def silent(node: Node, workspace: str, ports: Sequence[int]) -> list[int]:
    """Return those of the ports at which nothing listens; none if that cannot be seen. Connects to none of them."""
    from codesmith.sdk.client import Client

    with contextlib.suppress(CodeSmithError), Client(node) as client:
        seen = client.workspace.exec(name=workspace, argv=["cat", *TABLES])
        if seen.stdout:
            found = read(seen.stdout)
            return [port for port in ports if port not in found]
    return []


def read(table: str) -> set[int]:
    """Return the ports that tables of /proc/net say are listened at."""
    rows = [line.split() for line in table.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == LISTENING}


def note(workspace: str, ports: Collection[int]) -> str:
    """Return the line that says so."""
    which = f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))}"
    return f"nothing listens at {which} of {workspace} yet; the forward stays"
