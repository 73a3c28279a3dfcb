"""What the rest of CodeSmith needs of an SSH connection, whichever program holds it.

Two carriers offer it: `connection.NodeConnection` (Fabric on paramiko), and `openssh.connection.OpenSshConnection`
(the operator's own `ssh`). They differ in how they get there and log in; channels are paramiko's on both.
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


class Carrier(Protocol):
    """An open, verified connection to a node, logged in."""

    carrier: str
    secrets: Secrets

    @property
    def transport(self) -> NodeTransport:
        """What opens channels."""

    @property
    def target(self) -> Target | None:
        """Where it leads."""

    @property
    def why_lost(self) -> str:
        """Return why the connection was given up; nothing if it was not."""

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the reason when the connection is given up."""

    def close(self) -> None:
        """End the connection and every channel on it."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
