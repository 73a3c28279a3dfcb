"""What one call to a node's agent tells: version, facts, health; a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


def version(node: Node) -> Row:
    """Ask a node's agent which one it is."""
    with _client(node) as client:
        return {"node": node.name, **client.node.version().to_dict()}


def info(node: Node) -> Row:
    """Ask a node what it is and has."""
    with _client(node) as client:
        return {"node": node.name, **client.node.info().to_dict()}


def health(node: Node) -> Row:
    """Ask a node how it is."""
    with _client(node) as client:
        return {"node": node.name, **client.node.health().to_dict()}


def health_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one line per check."""
    return [{**row, **check, "check": check.get("name")} for row in rows for check in row.get("checks") or [{}]]


def is_failing(rows: Sequence[Row]) -> bool:
    """Tell whether a node's health is failing."""
    return any(row.get("status") == "failing" for row in rows)


def _client(node: Node) -> Client:
    from codesmith.sdk.client import Client

    return Client(node)
