"""Safe places to work, for people and AI coding agents, on Linux servers you already own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from codesmith import errors
    from codesmith.errors import AgentRefused, CodeSmithError
    from codesmith.sdk import api as types
    from codesmith.sdk.client import Client

__version__ = "0.2.0"
__all__ = ["AgentRefused", "Client", "CodeSmithError", "__version__", "connect", "errors", "types"]

# Imported on first use: a command line that only shows help needs none of them.
_EXPORTS = {
    "AgentRefused": ("codesmith.errors", "AgentRefused"),
    "Client": ("codesmith.sdk.client", "Client"),
    "CodeSmithError": ("codesmith.errors", "CodeSmithError"),
    "errors": ("codesmith.errors", ""),
    "types": ("codesmith.sdk.api", ""),
}


def __getattr__(name: str) -> Any:
    """Return an exported name: the client, its types (`types.Workspace`), the errors."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    imported = import_module(module)
    return getattr(imported, attribute) if attribute else imported


def connect(name: str = "", file: str = "", *, url: str = "", token_file: str | PathLike[str] = "") -> Client:
    """Return a typed client of one node: `with codesmith.connect("web1") as web1:`.

    Without a name the node is chosen as `inv` does: CODESMITH_NODE, then `default:` in nodes.yaml, then the only node.
    The first call opens the connection, and starts the forwarder if it is not running.

    With `url` and `token_file` the client needs no nodes.yaml: it calls the port that a forwarder has open for an
    `endpoint: tcp:PORT`, or the socket of tokens that `token.create --endpoint` names (`unix:PATH`). Without any of
    these, CODESMITH_ENDPOINT and CODESMITH_TOKEN_FILE say the same.
    """
    from codesmith import paths
    from codesmith.nodes.registry import Registry
    from codesmith.sdk.client import Client

    if not url and not name and not file:
        url, token_file = paths.variable("CODESMITH_ENDPOINT"), token_file or paths.variable("CODESMITH_TOKEN_FILE")
    if url.startswith("unix:"):
        from codesmith.http.scoped_socket import ScopedSocket, socket_of

        return Client(ScopedSocket(socket_of(url), paths.given(str(token_file))))
    if url:
        from codesmith.http.port import Port

        return Client(Port.parse(url, token_file))
    return Client(Registry.load(paths.nodes_file(file)).one(name))
