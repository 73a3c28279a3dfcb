"""The typed client of one node."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from codesmith.errors import Unreachable
from codesmith.http.port import Port
from codesmith.sdk.api import Methods
from codesmith.sdk.transport import Transport

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node
    from codesmith.sdk.agent_forwarding import ForwardedAgent


class Client(Methods):
    """All methods of the node's agent, by prefix: `client.workspace.create(name="demo")`.

    Opening it costs nothing; the first call connects. To a node of nodes.yaml it goes by the private Unix socket,
    whatever `endpoint` says there, and starts the forwarder when it is not running. A port is only used, never opened.
    """

    def __init__(self, to: Node | Port) -> None:
        self._transport = _by_port(to) if isinstance(to, Port) else _by_socket(to)
        super().__init__(self._transport)

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document of the node's agent (rpc.discover)."""
        return dict(self._transport.call("rpc.discover", {}, changes=False))

    def forward_agent(self, url: str, agent: str | None = None) -> ForwardedAgent:
        """Lend an ssh agent (a socket's path; by default SSH_AUTH_SOCK's) to one clone of `url`.

        `with client.lend_agent(url) as credential: client.repo.clone(workspace="demo", url=url, credential=credential)`
        """
        from codesmith.sdk.agent_forwarding import ForwardedAgent

        return ForwardedAgent(self._transport, url, agent)

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
        return f"<Client of {self._transport.node}>"


def _by_socket(node: Node) -> Transport:
    from codesmith.tunnel import local_endpoint

    return Transport(
        node.name,
        local_endpoint.endpoint_path(node),
        lambda: local_endpoint.ensure(node),
        local_endpoint.ensure_responsive,
        local_endpoint.offer_ssh_agent,
    )


def _by_port(port: Port) -> Transport:
    def nobody() -> Path:
        raise Unreachable(f"nobody listens at {port.url}", hint="inv node.connect  # by the operator whose port it is")

    return Transport(port.url, port, nobody)
