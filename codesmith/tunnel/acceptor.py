"""Accept connections on many listening sockets in one thread, and serve each connection in a thread of its own."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger("codesmith.tunnel")

ACCEPT_PAUSE_S = 0.2
# So many connections, each for another endpoint, within so many seconds are a rush; after so many it is over.
RUSH, RUSH_S, CALM_S = 8, 0.1, 0.1
# What waits for its end waits no longer than this.
LATER_S = 2.0
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
        self._bell = os.eventfd(0)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._is_closing = self._is_short = False
        self._recent: deque[tuple[float, str]] = deque([(0.0, "")], RUSH)
        self._later: deque[tuple[float, Callable[[], None]]] = deque()
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

    def when_calm(self, work: Callable[[], None], is_urgent: bool = False) -> None:
        """Call `work`, which must be quick: now or, if many endpoints are being called and it can wait, afterwards."""
        recent = list(self._recent)
        if is_urgent or time.monotonic() - recent[0][0] > RUSH_S or len({name for _, name in recent}) < RUSH:
            work()
            return
        with self._lock:
            self._later.append((time.monotonic(), work))
            is_first = len(self._later) == 1
        if is_first and not self._is_closing:
            os.eventfd_write(self._bell, 1)  # the thread may wait for a connection

    def close(self) -> None:
        """End the thread; sockets that are still listening stay open."""
        self._is_closing = True
        os.eventfd_write(self._bell, 1)
        self._pause.set()
        self._thread.join()
        self._epoll.close()
        os.close(self._bell)

    def _run(self) -> None:
        while not self._is_closing:
            for descriptor, _ in self._epoll.poll(CALM_S if self._later else None):
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                    continue
                with self._lock:
                    listening = self._listening.get(descriptor)
                if listening is not None:
                    self._accept(listening)
            self._do_what_waits()

    def _do_what_waits(self) -> None:
        now, due = time.monotonic(), []
        with self._lock:
            while self._later and (now - self._recent[-1][0] > CALM_S or now - self._later[0][0] > LATER_S):
                due.append(self._later.popleft()[1])
        for work in due:
            work()

    def _accept(self, listening: Listening) -> None:
        try:
            connection, _ = listening.socket.accept()
        except BlockingIOError:
            return  # the caller has gone already
        except OSError as error:
            if listening.socket.fileno() >= 0:
                self._wait(listening, str(error.strerror))
            return
        self._recent.append((time.monotonic(), listening.name))
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
