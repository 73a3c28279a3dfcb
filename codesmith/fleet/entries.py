"""Nodes in nodes.yaml: added, removed, their host keys pinned."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.cli import output
from codesmith.errors import CodeSmithError
from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node, Registry

if TYPE_CHECKING:
    pass


def add(file: str, name: str, settings: Mapping[str, Any], tags: list[str], labels: list[str]) -> Row:
    """Write a node into nodes.yaml and return it as it is now read."""
    from codesmith.cli import arguments
    from codesmith.nodes import writer

    path = paths.nodes_file(file)
    given = {**settings, "tags": tuple(tags), "labels": arguments.parse_pairs(labels, "--label")}
    writer.add(path, name, {key: value for key, value in given.items() if value not in (None, ())})
    return _written(Registry.load(path).get(name))


def remove(file: str, name: str) -> Row:
    """Take a node's endpoint down and its entry out of nodes.yaml; the node itself is left as it is."""
    from codesmith.nodes import writer
    from codesmith.tunnel import control, identity

    path = paths.nodes_file(file)
    node = Registry.load(path).get(name)
    control.disconnect(node)
    identity.forget(node)
    _forget_carrier(node)
    was_default = writer.remove(path, name)
    return {"name": name, "removed": True, "was_default": was_default, "file": str(path)}


def trust(node: Node, *, yes: bool) -> Row:
    """Pin the host key a node shows, once the person in front of the terminal agrees."""
    from codesmith.ssh.trust import trust as pin

    done = pin(node, yes=yes, confirm=output.confirm)
    return {
        "node": done.node,
        "host": done.host,
        "type": done.type,
        "fingerprint": done.fingerprint,
        "file": str(done.file),
        "added": done.added,
    }


def _forget_carrier(node: Node) -> None:
    """Forget that OpenSSH is tried first; nothing is remembered of a way that the ssh configuration does not give."""
    from codesmith.ssh import carriers
    from codesmith.ssh.target import resolve

    with contextlib.suppress(CodeSmithError):
        carriers.forget(resolve(node))


def _written(node: Node) -> Row:
    row = node.to_dict()
    return {key: value for key, value in row.items() if value not in (None, [], {})}
