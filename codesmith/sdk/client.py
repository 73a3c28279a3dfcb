"""The typed client of one node."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from codesmith.sdk.api import (
    AuditMethods,
    NodeMethods,
    RepoMethods,
    SandboxMethods,
    UserMethods,
    WorkspaceMethods,
)
from codesmith.sdk.transport import Transport

if TYPE_CHECKING:
    from codesmith.registry import Node


class Client:
    """All methods of the node's agent, by prefix: `client.workspace.create(name="demo")`.

    Opening it costs nothing; the first call connects, and starts the forwarder when it is not running.
    """

    def __init__(self, node: Node) -> None:
        from codesmith.tunnel.endpoint import endpoint_path

        self._node = node
        self._transport = Transport(node.name, endpoint_path(node), self._ensure)
        self.audit = AuditMethods(self._transport)
        self.node = NodeMethods(self._transport)
        self.repo = RepoMethods(self._transport)
        self.sandbox = SandboxMethods(self._transport)
        self.user = UserMethods(self._transport)
        self.workspace = WorkspaceMethods(self._transport)

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document of the node's agent (rpc.discover)."""
        return dict(self._transport.call("rpc.discover", {}, changes=False))

    def close(self) -> None:
        """Close the connection to the local endpoint; the endpoint stays."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self._node.name}>"

    def _ensure(self) -> Path:
        from codesmith.tunnel import endpoint

        return endpoint.ensure(self._node)
