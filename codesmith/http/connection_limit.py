"""A limit for the connections of one port: idle ones make room for new ones, unauthenticated ones first."""

from __future__ import annotations

import socket
import threading


class ConnectionLimit:
    """Counts connections. At the limit a new one replaces the oldest unauthenticated one, else the oldest idle one.

    A connection with a request under way is never ended.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum, self._lock = maximum, threading.Lock()
        self._open: set[socket.socket] = set()
        # Dictionaries keep the order: the oldest comes first.
        self._unauthenticated: dict[socket.socket, None] = {}
        self._idle: dict[socket.socket, None] = {}

    def admit(self, connection: socket.socket) -> bool:
        """Count a new connection, as unauthenticated; return False if the limit is reached and all have requests."""
        with self._lock:
            if len(self._open) >= self._maximum and not self._evict():
                return False
            self._open.add(connection)
            self._unauthenticated[connection] = None
            return True

    def mark_idle(self, connection: socket.socket) -> None:
        """Note that the connection has its answer and waits for the next request."""
        with self._lock:
            self._idle[connection] = None

    def mark_busy(self, connection: socket.socket) -> None:
        """Note that the connection has shown its token and has a request under way."""
        with self._lock:
            self._unauthenticated.pop(connection, None)
            self._idle.pop(connection, None)

    def remove(self, connection: socket.socket) -> None:
        """Stop counting a connection that has ended."""
        with self._lock:
            self._forget(connection)

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            for connection in self._open:
                _end(connection)

    def _evict(self) -> bool:
        """End one connection; its slot is free at once, its thread notices a moment later."""
        oldest = next(iter(self._unauthenticated or self._idle), None)
        if oldest is None:
            return False
        self._forget(oldest)
        _end(oldest)
        return True

    def _forget(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        self._unauthenticated.pop(connection, None)
        self._idle.pop(connection, None)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
