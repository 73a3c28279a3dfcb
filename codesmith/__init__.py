"""Safe places to work, for people and AI coding agents, on Linux servers you already own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from codesmith.sdk.client import Client

__version__ = "0.1.0"
__all__ = ["__version__", "connect"]


def connect(name: str = "", file: str = "", *, url: str = "", token_file: str | PathLike[str] = "") -> Client:
    """Return a typed client of one node; `with codesmith.connect("web1") as web1:` closes it at the end.

    Without a name the node is chosen as `inv` does: CODESMITH_NODE, then `default:` in nodes.yaml, then the only node.
    The first call opens the connection, and starts the forwarder when it is not running.

    With `url` and `token_file`, as `node.status --json` shows them for an `endpoint: tcp:PORT`, the client needs no
    nodes.yaml: it calls the port that a forwarder has open.
    """
    from codesmith import paths
    from codesmith.nodes.registry import Registry
    from codesmith.sdk.client import Client

    if url:
        from codesmith.http.port import Port

        return Client(Port.parse(url, token_file))
    return Client(Registry.load(paths.nodes_file(file)).one(name))
