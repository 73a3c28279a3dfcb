"""Background forwards: ports of workspaces on this machine's 127.0.0.1, kept by the forwarder.

Any process of this machine may use such a port, as with `ssh -L`. The three functions take and return plain data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesmith.tunnel import control
from codesmith.tunnel.state import ForwardState
from codesmith.workspace import forward
from codesmith.workspace.forward import Port

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node


def list_forwards(node: Node | None = None, workspace: str = "") -> list[ForwardState]:
    """Return the background forwards: all, those of a node, or those of one of its workspaces. Starts nothing."""
    return [
        one
        for one in control.forwards()
        if (node is None or (one.node, one.registry) == (node.name, str(node.registry)))
        and workspace in ("", one.workspace)
    ]


def start_forward(node: Node, workspace: str, port: int, local: int = 0, *, any_port: bool = False) -> ForwardState:
    """Forward `port` of a workspace to 127.0.0.1:`local` (0: the same number) in the background.

    Returns once it listens; one that is there already is returned as it is. With `any_port` a port that is taken here
    is replaced by the next free one. Raises BadArgument, CodeSmithError (taken, not allowed), or why the workspace is
    not reached.
    """
    wanted = forward.place(workspace, Port(port, local or port), any_port=any_port, ours=_ours(node, workspace))
    forward.ensure_workspace(node, workspace)
    argv = forward.command(node, workspace, [wanted])
    return control.start_forward(node, workspace, wanted.inside, wanted.local, argv)


def stop_forwards(node: Node, workspace: str, port: int = 0) -> list[ForwardState]:
    """End the background forwards of a workspace, or that of one of its ports; return those that it ended."""
    return control.stop_forwards(node, workspace, port)


def _ours(node: Node, workspace: str) -> set[Port]:
    return {Port(one.port, one.local) for one in list_forwards(node, workspace)}
