"""Logins that a test adds to a node, once for both carriers."""

from __future__ import annotations

from typing import Any

from codesmith.lab import LabNode


def add_login(node: LabNode, name: str, **fields: Any) -> str:
    """Add a login to a node, unless the same test made it over the other carrier."""
    if not (node.root / "home" / name).exists():
        node.add_login(name, **fields)
    return name
