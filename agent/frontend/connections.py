"""The open connections of the front end: how many there are, which are idle, which have a reply to read."""

from __future__ import annotations

import socket
import threading
from typing import Any, Dict

CONNECTIONS_MAX = 256
# Of all replies together that are not read yet: more than 48 commands with a megabyte of text on each output.
REPLIES_BYTES_MAX = 256 << 20


class Connections:
    """Counts connections. At the limit, the connection that has been idle longest is closed for a new one."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._idle: Dict[socket.socket, None] = {}
        self._replies: Dict[socket.socket, int] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many connections there are."""
        return self._count

    def admit(self) -> bool:
        """Count a new connection, and close the longest idle one if there are too many; False when none is idle."""
        with self._lock:
            if self._count >= self._limit:
                if not self._idle:
                    return False
                _close_oldest(self._idle)
            self._count += 1
            return True

    def leave(self) -> None:
        """Count a connection that has ended."""
        with self._lock:
            self._count -= 1

    def mark_idle(self, connection: socket.socket) -> None:
        """Note that a connection waits for a request."""
        with self._lock:
            self._idle[connection] = None
            self._replies.pop(connection, None)

    def mark_replying(self, connection: socket.socket, size_bytes: int) -> None:
        """Note that a connection has a reply to read. Above the limit for all replies, the oldest one is dropped."""
        with self._lock:
            self._replies[connection] = size_bytes
            while len(self._replies) > 1 and sum(self._replies.values()) > REPLIES_BYTES_MAX:
                _close_oldest(self._replies)

    def mark_busy(self, connection: socket.socket) -> None:
        """Note that a connection has a request in progress: it is not closed for a new one."""
        with self._lock:
            self._idle.pop(connection, None)

    def forget(self, connection: socket.socket) -> None:
        """Drop what was noted of a connection that has ended."""
        with self._lock:
            self._idle.pop(connection, None)
            self._replies.pop(connection, None)


def _close_oldest(connections: Dict[socket.socket, Any]) -> None:
    oldest = next(iter(connections))
    del connections[oldest]
    try:
        oldest.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
