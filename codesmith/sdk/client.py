"""The typed client of one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from codesmith.errors import StreamLost, Unreachable, Unsupported
from codesmith.http.port import Port
from codesmith.http.scoped_socket import ScopedSocket
from codesmith.sdk.api import Methods
from codesmith.sdk.transport import Transport

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node
    from codesmith.sdk.agent_forwarding import ForwardedAgent
    from codesmith.sdk.api import Tty
    from codesmith.sdk.streams import Stream


class Client(Methods):
    """All methods of the node's agent, by prefix: `client.workspace.create(name="demo")`.

    Creating it costs nothing; the first call connects. A node of nodes.yaml is called over its private Unix socket,
    whatever its `endpoint`, and the forwarder is started if it is not running. A client of a port or of a socket of
    tokens starts nothing, but for `ensure`, which makes that socket answer again.
    """

    def __init__(self, to: Node | Port | ScopedSocket, ensure: Callable[[], ScopedSocket] | None = None) -> None:
        if isinstance(to, Port | ScopedSocket):
            self._transport = _by_address(to, ensure)
        else:
            self._transport = _by_socket(to)
        super().__init__(self._transport)

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document of the node's agent (rpc.discover)."""
        return dict(self._transport.call("rpc.discover", {}, changes=False))

    def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, changes: bool = False, limit_s: float = 0.0
    ) -> Any:
        """Call a method by its name and return plain data, also what this client does not know of it.

        `changes` gives the call a request id; `limit_s` is the time that the method itself may take.
        """
        return self._transport.call(method, params or {}, changes=changes, limit_s=limit_s)

    def batch(self, calls: Sequence[tuple[str, Mapping[str, Any]]], *, limit_s: float = 0.0) -> list[Any]:
        """Call methods that change nothing, at most 16, in one round trip; return plain data in that order.

        `client.batch([("workspace.usage", {"name": name}) for name in names])`. A call that the agent refused has its
        AgentRefused in place of a result.
        """
        return self._transport.batch(calls, limit_s=limit_s)

    def forward_agent(self, url: str, agent: str | None = None) -> ForwardedAgent:
        """Forward an ssh agent (the path of its socket; SSH_AUTH_SOCK by default) to one clone of `url`.

        `with client.forward_agent(url) as key: client.repo.clone(workspace="demo", url=url, credential=key)`
        """
        from codesmith.sdk.agent_forwarding import ForwardedAgent

        if self._transport.is_port:
            raise Unsupported("an ssh agent is forwarded over a node's private socket, not over a port")
        return ForwardedAgent(self._transport, url, agent)

    @property
    def change_id(self) -> str:
        """What the request ids of its changes begin with; the same when a command is repeated by it."""
        return self._transport.change_id

    def run(
        self,
        workspace: str,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        tty: Tty | None = None,
        timeout_s: float | None = None,
    ) -> Stream:
        """Run a command in a workspace, and stream what it writes; it ends, with all it started, with the stream.

        `with client.run("demo", ["make"]) as run: print(*run)`. With `stdin` or a terminal (`tty`) it reads what
        `write` sends, otherwise nothing. There is no limit of time but `timeout_s`, and none of size.
        """
        started = self.job.start(
            workspace=workspace, argv=argv, cwd=cwd, env=env, stdin="stream" if stdin or tty else None, tty=tty,
            timeout_s=timeout_s, ends_with_stream=True,
        )  # fmt: skip
        if started.stream is None:
            raise StreamLost(f"{self._transport.node} started a command without its stream")
        return self.open_stream(started.stream.token)

    def attach(self, workspace: str, id: str, *, offset: int | None = None) -> Stream:  # noqa: A002
        """Stream what a running job writes; the job goes on when the stream ends.

        With `offset`, what it wrote from there on comes first; `Stream.offset` is where to read on.
        """
        return self.open_stream(self.job.attach(workspace=workspace, id=id, offset=offset).token, offset=offset)

    def open_stream(self, token: str, *, offset: int | None = None) -> Stream:
        """Return the stream of a token, of job.start or job.attach, that somebody else asked for."""
        from codesmith.sdk.streams import PROTOCOL, TARGET, TOKEN_HEADER, Stream

        connection = self._transport.upgrade(TARGET, PROTOCOL, {TOKEN_HEADER: token})
        return Stream(connection, self._transport.node, offset)

    @property
    def node_name(self) -> str:
        """The name of the node, for people."""
        return self._transport.node

    def close(self) -> None:
        """Close the connection to the local endpoint; the endpoint stays open."""
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


def _by_address(address: Port | ScopedSocket, ensure: Callable[[], ScopedSocket] | None) -> Transport:
    def refuse() -> ScopedSocket:
        hint = "inv node.connect  # by the operator whose endpoint it is"
        raise Unreachable(f"nothing listens at {address.url}", hint=hint)

    return Transport(address.url, address, ensure or refuse)
