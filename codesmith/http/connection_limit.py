"""Places for the connections of one port: who sends no request makes room, strangers first."""

from __future__ import annotations

import socket
import threading


class ConnectionLimit:
    """Counts connections. At the limit the one that waited longest goes, of those whose token nobody has seen yet."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._inside: set[socket.socket] = set()
        self._unproven: dict[socket.socket, None] = {}
        self._waiting: dict[socket.socket, None] = {}

    def admit(self, connection: socket.socket) -> bool:
        """Let one more in, as a stranger; False when everybody inside is at work."""
        with self._lock:
            if len(self._inside) >= self._most and not self._evict():
                return False
            self._inside.add(connection)
            self._unproven[connection] = None
            return True

    def wait(self, connection: socket.socket) -> None:
        """The connection had its answer and waits for a next request."""
        with self._lock:
            self._waiting[connection] = None

    def work(self, connection: socket.socket) -> None:
        """The connection has shown its token and has a request under way."""
        with self._lock:
            self._unproven.pop(connection, None)
            self._waiting.pop(connection, None)

    def leave(self, connection: socket.socket) -> None:
        """The connection is over."""
        with self._lock:
            self._forget(connection)

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            for connection in self._inside:
                _end(connection)

    def _evict(self) -> bool:
        """Make one go; the place is free at once, its thread notices a moment later."""
        oldest = next(iter(self._unproven or self._waiting), None)
        if oldest is None:
            return False
        self._forget(oldest)
        _end(oldest)
        return True

    def _forget(self, connection: socket.socket) -> None:
        self._inside.discard(connection)
        self._unproven.pop(connection, None)
        self._waiting.pop(connection, None)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # gone already
