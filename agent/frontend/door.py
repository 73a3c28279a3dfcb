"""The door of people who have only a key: `enter` speaks here, as any login of the node."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.frontend.dispatch import Dispatcher


def serve(listening: socket.socket, dispatcher: Dispatcher) -> None:
    """Serve a listening socket; does not return."""
    while True:
        listening.accept()[0].close()
