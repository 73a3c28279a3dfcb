"""Log in to nodes, to few of one host at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from codesmith.tunnel.link import Link

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

# sshd refuses at random from ten on that have not logged in yet (sshd_config(5), MaxStartups). On a busy node it counts
# those that have logged in a little longer, and others log in there too.
AT_ONCE = 4


class Logins:
    """Opens links as `opener` does, at most AT_ONCE to one host at a time; safe to use from many threads.

    Several agents may be behind one sshd, and after a network cut all of them are connected again.
    """

    def __init__(self, opener: Callable[..., Link]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._places: dict[str, threading.Semaphore] = {}

    def __call__(self, node: Node, on_lost: Callable[[], None], **more: Any) -> Link:
        """Return a new link; waits while AT_ONCE others of the node's host are being opened."""
        with self._lock:
            places = self._places.setdefault(node.host or node.name, threading.Semaphore(AT_ONCE))
        with places:
            return self._opener(node, on_lost, **more)
