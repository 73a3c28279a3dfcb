"""Calls that tell about a node: version, facts, health. Each returns the row of one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


def version(node: Node) -> Row:
    """Return version, build and node id of a node's agent."""
    with _client(node) as client:
        return {"node": node.name, **client.node.version().to_dict()}


def info(node: Node) -> Row:
    """Return facts about a node: system, processors, memory, disk, agent."""
    with _client(node) as client:
        return {"node": node.name, **client.node.info().to_dict()}


def health(node: Node) -> Row:
    """Return the health checks of a node."""
    with _client(node) as client:
        return {"node": node.name, **client.node.health().to_dict()}


def health_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one row per health check."""
    return [{**row, **check, "check": check.get("name")} for row in rows for check in row.get("checks") or [{}]]


def is_failing(rows: Sequence[Row]) -> bool:
    """Tell whether the health of any node is failing."""
    return any(row.get("status") == "failing" for row in rows)


def _client(node: Node) -> Client:
    from codesmith.sdk.client import Client

    return Client(node)
