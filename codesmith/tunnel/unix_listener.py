"""The local Unix socket of one endpoint: every connection gets a stream to the agent, or a typed refusal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.http.refusal import refuse
from codesmith.tunnel.acceptor import Acceptor
from codesmith.tunnel.link import NoFreeSession
from codesmith.tunnel.pool import Pool, too_many_connections
from codesmith.tunnel.private_socket import PrivateSocket
from codesmith.tunnel.relay import Relay

PATIENCE_S = 5.0


class UnixListener:
    """Listens from the first proof on, also during outages: a caller then gets the typed reason."""

    def __init__(
        self,
        path: Path,
        pool: Pool,
        acceptor: Acceptor,
        await_ready: Callable[[float], None],
        request_proof: Callable[[], None],
    ) -> None:
        self._path, self._pool, self._acceptor = path, pool, acceptor
        self._await_ready, self._request_proof = await_ready, request_proof
        self._lock = threading.Lock()
        self._socket: PrivateSocket | None = None
        self._is_closed = False
        self.counts = {"served": 0, "refused": 0}

    def is_open(self) -> bool:
        """Return whether the socket is open and its file is still in place."""
        return self._socket is not None and self._socket.is_in_place()

    def ensure_open(self) -> None:
        """Open the socket, again if its file was removed; do nothing after `close`."""
        with self._lock:
            if self._is_closed or self.is_open():
                return
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            self._socket = PrivateSocket(self._path, self._acceptor, self._serve)

    def close(self) -> None:
        """Remove the socket for good."""
        with self._lock:
            self._is_closed = True
            if self._socket is not None:
                self._socket.close()

    def _serve(self, local: socket.socket) -> None:
        if not self._acceptor.places.acquire(blocking=False):
            self._refuse(local, too_many_connections())
            return
        try:
            self._carry(local)
        finally:
            self._acceptor.places.release()

    def _carry(self, local: socket.socket) -> None:
        try:
            relay = self._relay(local)
        except CodeSmithError as error:
            self._refuse(local, error)
            return
        self.counts["served"] += 1
        try:
            relay.serve()
        except RuntimeError as error:
            self._refuse(local, CodeSmithError(f"the forwarder has no thread for this connection: {error}"))
        finally:
            self._pool.give_back(relay)

    def _relay(self, local: socket.socket) -> Relay:
        """Return the relay for this connection; if the first attempt fails, try once more after a new proof."""
        self._await_ready(PATIENCE_S)
        try:
            return self._pool.take(local)
        except NoFreeSession:
            raise
        except Unreachable:
            self._request_proof()
        self._await_ready(PATIENCE_S)
        return self._pool.take(local)

    def _refuse(self, local: socket.socket, error: CodeSmithError) -> None:
        self.counts["refused"] += 1
        refuse(local, error)
