"""Choose the node for a new workspace: the one with the most free memory and disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesmith.cli import output
from codesmith.cli.people import size
from codesmith.cli.progress import Progress
from codesmith.errors import AgentRefused, BadArgument, CodeSmithError
from codesmith.fleet import report, selection
from codesmith.fleet.one_node import OneNode
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


@dataclass(frozen=True)
class Room:
    """What a node has left: bytes of memory and disk; or why nothing is placed there."""

    node: str
    memory_bytes: int = 0
    disk_bytes: int = 0
    reason: str = ""

    @property
    def figures(self) -> str:
        """Return what is free, for people."""
        return f"{size(self.memory_bytes)} memory, {size(self.disk_bytes)} disk free"


class NoRoom(CodeSmithError):
    """No node can take the workspace; the problem has the reason of each."""

    def __init__(self, rooms: Sequence[Room], code: int) -> None:
        reasons = "".join(f"\n  {room.node}: {room.reason}" for room in rooms)
        super().__init__(f"no node can take it:{reasons}", hint="inv node.list")
        self._code = code


def place(name: str, user: str | None, tags: list[str] | None, where: OneNode) -> str:
    """Return the name of the node for workspace `name` of `user`, and say why on stderr.

    Each node with one of `tags` (without tags: every node) is looked at once, in parallel. NoRoom if none can take it.
    """
    if where.get("node"):
        raise BadArgument("--any and --node exclude each other", hint=f"inv workspace.create {name} --any --tag TAG")
    chosen = selection.choose({"tag": tags, "all": not tags, "file": where.get("file")})
    outcomes = report.watched(chosen, lambda node: look(node, name, user), Progress(len(chosen.nodes), "looking"))
    rooms = [
        outcome.result or Room(outcome.node.name, reason=outcome.error.problem if outcome.error else "")
        for outcome in outcomes
    ]
    codes = {outcome.error.code if outcome.error else CodeSmithError.exit_code for outcome in outcomes}
    ranked = rank(rooms)
    if not ranked:
        raise NoRoom(rooms, codes.pop() if len(codes) == 1 else CodeSmithError.exit_code)
    output.say(explained(ranked, [room for room in rooms if room.reason]))
    return ranked[0].node


def look(node: Node, name: str, user: str | None) -> Room:
    """Return what a node has left, or why a workspace of this name cannot be there."""
    from codesmith.sdk.client import Client

    with Client(node) as client:
        reason = _obstacle(client, name, user)
        if reason:
            return Room(node.name, reason=reason)
        info = client.call("node.info")
    if "memory_available_bytes" not in info:
        return Room(node.name, reason=f"its agent is older; inv node.prepare --node {node.name}")
    return Room(node.name, info["memory_available_bytes"], info["disk"]["free_bytes"])


def rank(rooms: Sequence[Room]) -> list[Room]:
    """Return the nodes that can take it, the best one first.

    A node is as good as the scarcer of its two: its free memory and its free disk, each as a share of the most that a
    node has. Of two that are equally good the other share decides, then the name.
    """
    fit = [room for room in rooms if not room.reason]
    most_memory = max((room.memory_bytes for room in fit), default=0) or 1
    most_disk = max((room.disk_bytes for room in fit), default=0) or 1

    def order(room: Room) -> tuple[float, float, str]:
        shares = sorted((room.memory_bytes / most_memory, room.disk_bytes / most_disk))
        return -shares[0], -shares[1], room.node

    return sorted(fit, key=order)


def explained(ranked: Sequence[Room], left_out: Sequence[Room]) -> str:
    """Return one line that says which node was taken, with the figures, and which were left out."""
    others = "".join(f"; {room.node}: {room.figures}" for room in ranked[1:])
    reasons = "".join(f"; {room.node} left out: {' '.join(room.reason.split())}" for room in left_out)
    return f"on {ranked[0].node}: {ranked[0].figures}{others}{reasons}"


def _obstacle(client: Client, name: str, user: str | None) -> str:
    """Return why the node cannot have the workspace; "" if nothing is in the way."""
    if _is_there(lambda: client.workspace.get(name=name)):
        return f"has a workspace {name} already"
    if user is None:
        return f"has a user {name} already" if _is_there(lambda: client.user.get(name=name)) else ""
    return "" if _is_there(lambda: client.user.get(name=user)) else f"has no user {user}"


def _is_there(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except AgentRefused as refusal:
        if refusal.rpc_kind != "not_found":
            raise
        return False
    return True
