"""Add nodes to nodes.yaml, remove them, and pin their host keys."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from codesmith import paths
from codesmith.cli import output
from codesmith.errors import CodeSmithError
from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node, Registry


def add(file: str, name: str, settings: Mapping[str, Any], tags: list[str], labels: list[str]) -> Row:
    """Add a node to nodes.yaml and return it as the file now has it."""
    from codesmith.cli import arguments
    from codesmith.nodes import writer

    path = paths.nodes_file(file)
    given = {**settings, "tags": tuple(tags), "labels": arguments.parse_pairs(labels, "--label")}
    writer.add(path, name, {key: value for key, value in given.items() if value not in (None, ())})
    return _written(Registry.load(path).get(name))


def remove(file: str, name: str) -> Row:
    """Close a node's endpoint and remove its entry from nodes.yaml; the node itself does not change."""
    from codesmith.nodes import reader, writer
    from codesmith.tunnel import control, identity

    path = paths.nodes_file(file)
    node = Registry.load(path).get(name)
    writer.ensure_own(reader.read(path), name)
    control.disconnect(node)
    identity.forget(node)
    _forget_carrier(node)
    was_default = writer.remove(path, name)
    return {"name": name, "removed": True, "was_default": was_default, "file": str(path)}


def trust(node: Node, *, yes: bool) -> Row:
    """Pin the host key that a node shows, after the operator has confirmed it on the terminal or with `yes`."""
    from codesmith.ssh.trust import trust as pin

    pinned = pin(node, yes=yes, confirm=output.confirm)
    return {
        "node": pinned.node,
        "host": pinned.host,
        "type": pinned.type,
        "fingerprint": pinned.fingerprint,
        "file": str(pinned.file),
        "added": pinned.added,
    }


def _forget_carrier(node: Node) -> None:
    """Forget that OpenSSH is tried first; nothing is remembered of a way that the ssh configuration does not give."""
    from codesmith.ssh import connect
    from codesmith.ssh.target import resolve

    with contextlib.suppress(CodeSmithError):
        connect.forget(resolve(node))


def _written(node: Node) -> Row:
    row = node.to_dict()
    return {key: value for key, value in row.items() if value not in (None, [], {})}
