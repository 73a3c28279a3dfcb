"""What is to be sent on a connection: at once if the other side reads, otherwise when it does."""

from __future__ import annotations

import socket
from collections import deque
from typing import Callable, Deque, Sequence, Union

from agent.supervisor.loop import Loop

Bytes = Union[bytes, memoryview]


class Outbox:
    """Sends without waiting. Its memory is bounded by who asks `size` before he sends more.

    `on_empty` is called when all that waited is sent, `on_error` when the connection is gone.
    """

    def __init__(
        self, loop: Loop, connection: socket.socket, on_empty: Callable[[], object], on_error: Callable[[], object]
    ) -> None:
        self._loop, self._connection, self._on_empty, self._on_error = loop, connection, on_empty, on_error
        self._waiting: Deque[memoryview] = deque()
        self.size = 0

    def send(self, *parts: Bytes) -> None:
        """Send these parts one after the other; what cannot be sent now is copied, and sent later."""
        sent = 0
        if not self.size:
            try:
                sent = self._connection.sendmsg(parts, (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                self._on_error()
                return
        for part in parts:
            if sent < len(part):
                self._keep(bytes(part[sent:]))
            sent = max(sent - len(part), 0)

    def _keep(self, data: bytes) -> None:
        if not self.size:
            self._loop.watch(self._connection.fileno(), self._send_waiting, writing=True)
        self._waiting.append(memoryview(data))
        self.size += len(data)

    def _send_waiting(self) -> None:
        try:
            sent = self._connection.sendmsg(_next_pieces(self._waiting), (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._on_error()
            return
        self.size -= sent
        while sent:
            first = self._waiting[0]
            if sent < len(first):
                self._waiting[0] = first[sent:]
                return
            sent -= len(first)
            self._waiting.popleft()
        if not self.size:
            self._loop.pause(self._connection.fileno(), writing=True)
            self._on_empty()


def _next_pieces(waiting: Deque[memoryview]) -> Sequence[memoryview]:
    return [waiting[at] for at in range(min(len(waiting), 16))]
