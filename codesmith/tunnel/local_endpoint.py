"""The local endpoint of a node: its paths, and how to make it answer.

Light (no Fabric, paramiko or yaml): the client imports it.
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


def scoped_path(node: Node) -> Path:
    """Return the path of the local socket that leads to the node's socket of tokens; it exists once it is asked for."""
    return runtime_dir() / f"{node.key}.scoped.sock"


def ensure_scoped(node: Node) -> Path:
    """Return that path once the forwarder serves it; like `ensure`."""
    from codesmith.tunnel import control

    control.connect(node)
    return control.open_scoped(node)


def token_path(node: Node) -> Path:
    """Return the path of the token for the node's port; it exists only while the forwarder has the port open."""
    return runtime_dir() / f"{node.key}.token"


def port_of(node: Node) -> int | None:
    """Return the port of an `endpoint: tcp:PORT`; None for a node that has only the Unix socket."""
    kind, _, port = node.endpoint.partition(":")
    return int(port) if kind == "tcp" else None


def address_of(node: Node) -> str:
    """Return the endpoint as `node.list` shows it."""
    port = port_of(node)
    return f"unix:{endpoint_path(node)}" if port is None else f"tcp:127.0.0.1:{port}"


def ensure_responsive() -> None:
    """Raise Hanging, with the command that ends it, if the forwarder hangs."""
    from codesmith.tunnel import control

    control.running(CHECK_S)


def offer_ssh_agent() -> bool:
    """Have the forwarder use the ssh agent of this process; return True if a refused login is worth another attempt."""
    from codesmith.tunnel import control

    return control.offer_agent()


def ensure(node: Node, timeout_s: float = 30.0) -> Path:
    """Return the path once the node's agent answered through it; start the forwarder and connect if need be.

    Raises the reason if that fails: Unreachable, AuthenticationFailed, HostKeyUnknown, HostKeyChanged, NotPrepared,
    WrongNode.
    """
    from codesmith.tunnel import control

    control.connect(node, timeout_s=timeout_s)
    return endpoint_path(node)
