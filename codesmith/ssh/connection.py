"""What CodeSmith needs of an SSH connection, whichever program (the carrier) holds it.

Two carriers provide it: `fabric_connection.FabricConnection` (Fabric on paramiko) and
`openssh.connection.OpenSshConnection` (the operator's own `ssh`). They reach the node and log in differently; on both,
channels are paramiko's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from codesmith.secrets import Secrets
    from codesmith.ssh.target import Target
    from codesmith.ssh.transport import NodeTransport

FABRIC, OPENSSH = "fabric", "openssh"
CARRIERS = (FABRIC, OPENSSH)


class Connection(Protocol):
    """An open, verified connection to a node, logged in. `carrier` is FABRIC or OPENSSH."""

    carrier: str
    secrets: Secrets

    @property
    def transport(self) -> NodeTransport:
        """The transport that opens channels."""

    @property
    def target(self) -> Target | None:
        """Where the connection leads."""

    @property
    def why_lost(self) -> str:
        """Why the connection was lost; "" while it is open, or after `close`."""

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason when the connection is lost."""

    def close(self) -> None:
        """End the connection and every channel on it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
