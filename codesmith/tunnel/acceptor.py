"""Accept connections on many listening sockets in one thread, and serve each connection in a thread of its own."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Callable

log = logging.getLogger("codesmith.tunnel")

ACCEPT_PAUSE_S = 0.2
CONNECTIONS_MAX = 400

Handler = Callable[[socket.socket], None]


class Listening:
    """One listening socket of an Acceptor."""

    def __init__(
        self,
        acceptor: Acceptor,
        name: str,
        sock: socket.socket,
        handler: Handler,
        admit: Callable[[socket.socket], bool],
    ) -> None:
        self.name, self.socket, self.handler, self.admit = name, sock, handler, admit
        self._acceptor = acceptor

    def close(self) -> None:
        """Stop accepting and close the socket. Connections that are accepted already go on."""
        self._acceptor.remove(self)


class Acceptor:
    """Accepts for all endpoints of a forwarder, until `close`.

    `places` counts the local connections that have, or wait for, a stream to a node.
    """

    def __init__(self, places: int = CONNECTIONS_MAX) -> None:
        self.places = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._listening: dict[int, Listening] = {}
        self._epoll = select.epoll()
        self._closing = os.eventfd(0)
        self._epoll.register(self._closing, select.EPOLLIN)
        self._is_short = False
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accept", daemon=True)
        self._thread.start()

    def listen(
        self,
        name: str,
        sock: socket.socket,
        handler: Handler,
        admit: Callable[[socket.socket], bool] = lambda _: True,
    ) -> Listening:
        """Give every connection of a listening socket to `handler`, and close it afterwards.

        It is closed at once if `admit` returns False.
        """
        sock.setblocking(False)
        listening = Listening(self, name, sock, handler, admit)
        with self._lock:
            self._listening[sock.fileno()] = listening
            self._epoll.register(sock, select.EPOLLIN)
        return listening

    def remove(self, listening: Listening) -> None:
        """Close one listening socket; nothing happens the second time."""
        with self._lock:
            if listening.socket.fileno() >= 0:
                del self._listening[listening.socket.fileno()]
                self._epoll.unregister(listening.socket)
                listening.socket.close()

    def close(self) -> None:
        """End the thread; sockets that are still listening stay open."""
        os.eventfd_write(self._closing, 1)
        self._pause.set()
        self._thread.join()
        self._epoll.close()
        os.close(self._closing)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._closing:
                    return
                with self._lock:
                    listening = self._listening.get(descriptor)
                if listening is not None:
                    self._accept(listening)

    def _accept(self, listening: Listening) -> None:
        try:
            connection, _ = listening.socket.accept()
        except BlockingIOError:
            return  # the caller has gone already
        except OSError as error:
            if listening.socket.fileno() >= 0:
                self._wait(listening, str(error.strerror))
            return
        if not listening.admit(connection):
            connection.close()
            return
        serving = threading.Thread(
            target=_serve, args=(listening, connection), name=f"serve {listening.name}", daemon=True
        )
        try:
            serving.start()
            self._is_short = False
        except RuntimeError as error:  # no thread is left: this connection ends, the next one may be served
            connection.close()
            self._wait(listening, str(error))

    def _wait(self, listening: Listening, why: str) -> None:
        """Wait until descriptors or threads are free again; log it once."""
        if not self._is_short:
            log.warning("%s: accept: %s", listening.name, why)
        self._is_short = True
        self._pause.wait(ACCEPT_PAUSE_S)


def _serve(listening: Listening, connection: socket.socket) -> None:
    try:
        with connection:
            listening.handler(connection)
    except OSError as error:
        log.debug("%s: %s", listening.name, error)
