"""The local socket of a node: where it is, and how to make sure that it answers.

Light on purpose (no Fabric, no paramiko, no yaml): the client imports it when a socket does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesmith.paths import runtime_dir

if TYPE_CHECKING:
    from pathlib import Path

    from codesmith.nodes.registry import Node


CHECK_S = 4.0


def endpoint_path(node: Node) -> Path:
    """Return the path of the node's local socket; it exists only while the forwarder serves the node."""
    return runtime_dir() / f"{node.key}.sock"


def token_path(node: Node) -> Path:
    """Return the path of the token that the node's port wants; it exists only while the forwarder has the port open."""
    return runtime_dir() / f"{node.key}.token"


def port_of(node: Node) -> int | None:
    """Return the port of an `endpoint: tcp:PORT`; None for a node that has the Unix socket alone."""
    kind, _, port = node.endpoint.partition(":")
    return int(port) if kind == "tcp" else None


def address_of(node: Node) -> str:
    """Return the endpoint as `node.list` shows it."""
    port = port_of(node)
    return f"unix:{endpoint_path(node)}" if port is None else f"tcp:127.0.0.1:{port}"


def check() -> None:
    """Return unless the forwarder hangs; Hanging says so, with the command that ends it."""
    from codesmith.tunnel import control

    control.running(CHECK_S)


def renew() -> bool:
    """Hand the ssh agent of this process to the forwarder; True where a refused login is worth another attempt."""
    from codesmith.tunnel import control

    return control.offer_agent()


def ensure(node: Node, timeout_s: float = 30.0) -> Path:
    """Return the path once the node's agent answered through it; start the forwarder and connect if need be.

    Raises what stands in the way: Unreachable, AuthenticationFailed, HostKeyUnknown, HostKeyChanged, NotPrepared,
    WrongNode.
    """
    from codesmith.tunnel import control

    control.connect(node, timeout_s=timeout_s)
    return endpoint_path(node)
