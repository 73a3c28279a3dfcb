"""The local socket of a node: where it is, and how to make sure that it answers.

Light on purpose (no Fabric, no paramiko, no yaml): the client imports it when a socket does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesmith.paths import runtime_dir

if TYPE_CHECKING:
    from pathlib import Path

    from codesmith.registry import Node


def endpoint_path(node: Node) -> Path:
    """Return the path of the node's local socket; it exists only while the forwarder serves the node."""
    return runtime_dir() / f"{node.key}.sock"


def ensure(node: Node, timeout_s: float = 30.0) -> Path:
    """Return the path once the node's agent answered through it; start the forwarder and connect if need be.

    Raises what stands in the way: Unreachable, AuthenticationFailed, HostKeyUnknown, HostKeyChanged, NotPrepared,
    WrongNode.
    """
    from codesmith.tunnel import control

    control.connect(node, timeout_s=timeout_s)
    return endpoint_path(node)
