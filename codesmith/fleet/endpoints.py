"""Open and close local endpoints, and list their state. Each function returns rows for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from codesmith.errors import by_kind
from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node, Registry

if TYPE_CHECKING:
    from codesmith.tunnel.state import EndpointState, ForwardState


def connect(node: Node) -> Row:
    """Open a node's endpoint and its port, if it has one; return its state."""
    from codesmith.tunnel import control

    state = control.connect(node)
    if state.state != "ready":  # the private socket works, but the port that nodes.yaml asks for is not open
        raise by_kind(state.kind)(state.reason, hint=state.hint)
    return state_row(state)


def disconnect(node: Node) -> Row:
    """Close a node's endpoint; `changed` says whether there was one."""
    from codesmith.tunnel import control

    return {"node": node.name, "changed": control.disconnect(node)}


def status(chosen: Sequence[Node] | None) -> list[Row]:
    """Return the state and the background forwards of every endpoint; for chosen nodes, also of those without one."""
    from codesmith.tunnel import control

    found, forwards = control.status_and_forwards()
    if chosen is None:
        rows = [state_row(state) for state in found]
    else:
        states = {(state.name, state.registry): state for state in found}
        pairs = [(node, states.get((node.name, str(node.registry)))) for node in chosen]
        rows = [state_row(state) if state else _stopped(node) for node, state in pairs]
    return [{**row, "forwards": [one.to_dict() for one in forwards if _is_of(one, row)]} for row in rows]


def for_people(rows: Sequence[Row]) -> list[Row]:
    """Return rows of `status` with a word for each forward: where it listens, and what is there."""
    return [{**row, "forwards": [forward_word(one) for one in row["forwards"]]} for row in rows]


def forward_word(forward: Row) -> str:
    """Return `127.0.0.1:18000=demo:8000`, and the state of a forward that is not ready."""
    word = f"{forward['address']}={forward['workspace']}:{forward['port']}"
    return word if forward["state"] == "ready" else f"{word}({forward['state']})"


def _is_of(forward: ForwardState, row: Row) -> bool:
    return (forward.node, forward.registry) == (row["name"], row["registry"])


def listing(registry: Registry) -> list[Row]:
    """Return every node of the registry with the state of its endpoint."""
    rows = status(list(registry.nodes.values()))
    return [
        {
            **row,
            "tags": list(node.tags),
            "labels": dict(node.labels),
            "default": node.name == registry.default,
            "source": node.source,
        }
        for row, node in zip(rows, registry.nodes.values(), strict=True)
    ]


def with_short_sources(rows: Sequence[Row], registry: Registry) -> list[Row]:
    """Return rows of `listing` for people: the file of each node as it lies below the folder of nodes.yaml."""
    folder = f"{registry.path.parent}/"
    return [{**row, "source": str(row["source"]).removeprefix(folder)} for row in rows]


def state_row(state: EndpointState) -> Row:
    """Return the row of one endpoint."""
    keys = (
        "name",
        "host",
        "endpoint",
        "token_file",
        "scoped",
        "state",
        "since",
        "agent_version",
        "node_id",
        "carrier",
        "reason",
        "registry",
    )
    row = {key: getattr(state, key) for key in keys}
    return {**row, "since": _time(state.since)}


def _stopped(node: Node) -> Row:
    from codesmith.tunnel.local_endpoint import address_of, port_of, token_path

    return {
        "name": node.name,
        "host": node.place,
        "endpoint": address_of(node),
        "token_file": "" if port_of(node) is None else str(token_path(node)),
        "scoped": "",
        "state": "stopped",
        "since": None,
        "agent_version": "",
        "node_id": "",
        "carrier": "",
        "reason": "",
        "registry": str(node.registry),
    }


def _time(seconds: float) -> str | None:
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if seconds else None
    )
