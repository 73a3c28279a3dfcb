"""The TCP port of an endpoint: it listens only on 127.0.0.1 and serves only requests with the token."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.http.connection_limit import ConnectionLimit
from codesmith.http.port import HOST
from codesmith.http.session import Session
from codesmith.http.token import remove_token, write_token
from codesmith.tunnel.acceptor import Acceptor, Listening
from codesmith.tunnel.port_owner import describe_owner

log = logging.getLogger("codesmith.tunnel")

BACKLOG = 4096  # if the queue is full, the kernel makes callers wait a second
CONNECTIONS_MAX = 100


class TcpListener:
    """Listens from the first proof on, like the Unix socket to which it forwards; a taken port is tried again.

    While the port is taken, calls by the Unix socket go on. `problem` has the reason, and `node.status` shows it.
    """

    def __init__(self, name: str, port: int, token_path: Path, endpoint: Path, acceptor: Acceptor) -> None:
        self._name, self._port, self._token_path, self._endpoint = name, port, token_path, endpoint
        self._acceptor = acceptor
        self._lock = threading.Lock()
        self._limit = ConnectionLimit(CONNECTIONS_MAX)
        self._listening: Listening | None = None
        self._is_closed = False
        self.problem: CodeSmithError | None = None

    def ensure_open(self) -> None:
        """Open the port with a new token, again if the token file was removed; do nothing after `close`."""
        with self._lock:
            if self._is_closed or self.is_open():
                return
            self._shut()
            before, self.problem = self.problem, None
            try:
                self._open()
            except OSError as error:
                self.problem = self._why_not(error)
            if self.problem and str(self.problem) != str(before):
                log.warning("%s", self.problem.problem)

    def is_open(self) -> bool:
        """Return whether the port is open and the token still in place."""
        return self._listening is not None and self._token_path.exists()

    def close(self) -> None:
        """Close the port, remove the token and end every connection."""
        with self._lock:
            self._is_closed = True
            self._shut()

    def _open(self) -> None:
        listening = _listen(self._port)
        try:
            token = write_token(self._token_path)
        except OSError:
            listening.close()
            raise
        self._listening = self._acceptor.listen(
            f"port {self._port}",
            listening,
            lambda client: Session(client, self._limit, self._port, token, self._endpoint).serve(),
            self._limit.admit,
        )

    def _shut(self) -> None:
        if self._listening is not None:
            remove_token(self._token_path)
            self._listening.close()
            self._limit.close()
            self._listening = None

    def _why_not(self, error: OSError) -> CodeSmithError:
        where = f"{self._name}: cannot open {HOST}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            return CodeSmithError(
                f"{where}: it is taken by {describe_owner(self._port)}",
                hint=f"see what it is, or write another port into nodes.yaml: ss -ltnp 'sport = :{self._port}'",
            )
        return CodeSmithError(f"{where}: {error.strerror}", hint=f"inv node.status  # {self._name} needs another port")


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # On Linux this allows a port whose old connections are still ending, but never one with a listener.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
