"""Accept connections on a listening socket and serve each in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

log = logging.getLogger("codesmith.tunnel")

ACCEPT_PAUSE_S = 0.2

Handler = Callable[[socket.socket], None]


class Acceptor:
    """Gives every connection to `handler` and closes it afterwards; closes it at once if `admit` returns False."""

    def __init__(
        self,
        name: str,
        listening: socket.socket,
        handler: Handler,
        admit: Callable[[socket.socket], bool] = lambda _: True,
    ) -> None:
        self._name, self._socket, self._handler, self._admit = name, listening, handler, admit
        self._closed = threading.Event()
        self._is_short = False
        threading.Thread(target=self._accept_until_closed, name=f"accept {name}", daemon=True).start()

    def stop(self) -> None:
        """Accept no further connection; `close` closes the socket."""
        self._closed.set()

    def close(self) -> None:
        """Stop accepting and close the socket. Connections that are accepted already go on."""
        self._closed.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self._socket.close()

    def _accept_until_closed(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                self._wait(str(error.strerror))
                continue
            if not self._admit(connection):
                connection.close()
                continue
            serving = threading.Thread(target=self._handle, args=(connection,), name=f"serve {self._name}", daemon=True)
            try:
                serving.start()
                self._is_short = False
            except RuntimeError as error:  # no thread is left: this connection ends, the next one may be served
                connection.close()
                self._wait(str(error))

    def _wait(self, why: str) -> None:
        """Wait until descriptors or threads are free again; log it once."""
        if not self._closed.is_set():
            if not self._is_short:
                log.warning("%s: accept: %s", self._name, why)
            self._is_short = True
            self._closed.wait(ACCEPT_PAUSE_S)

    def _handle(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._handler(connection)
        except OSError as error:
            log.debug("%s: %s", self._name, error)
