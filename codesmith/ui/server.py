"""Serve the pages: on a free port of loopback for one browser, or on a Unix socket for whoever may open it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from codesmith.paths import runtime_dir
from codesmith.secrets import SHARED
from codesmith.tunnel import private_socket
from codesmith.ui.access import Access
from codesmith.ui.actions import Actions
from codesmith.ui.app import Pages
from codesmith.ui.contract import Contracts
from codesmith.ui.guard import Guard
from codesmith.ui.nodes import Nodes
from codesmith.ui.proxy import Proxy
from codesmith.ui.store import Store

HOST = "127.0.0.1"
BACKLOG = 128
HEAD_BYTES_MAX = 16 << 10
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONNECTIONS_MAX = 400


class Server:
    """The UI of one nodes.yaml. `run` serves until `stop`, a signal, or nobody has used it for `idle_s` (0: never)."""

    def __init__(
        self,
        listening: socket.socket,
        access: Access,
        nodes_file: Path,
        *,
        read_only: bool = False,
        idle_s: float = 0.0,
        path: Path | None = None,
    ) -> None:
        """`path` is the file of a Unix socket: it goes with the server."""
        self._path, self._ended = path, threading.Event()
        self._signals: dict[signal.Signals, Any] = {}
        self.access, self.listening, self._idle_s = access, listening, idle_s
        self.store, contracts = Store(), Contracts()
        self.nodes = Nodes(nodes_file, self.store, contracts)
        self._actions = Actions(self.store, read_only=read_only)
        proxy = Proxy(contracts, read_only=read_only)
        self.pages = Pages(access, self.store, self.nodes, self._actions, proxy, read_only=read_only)
        self._guard = Guard(self.pages.app(), access)
        self._uvicorn = _Quiet(
            uvicorn.Config(
                self._guard, lifespan="off", ws="none", http="h11", loop="asyncio", log_config=None, log_level="error",
                access_log=False, server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=30, timeout_graceful_shutdown=2, h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            ),
            self.pages.close,
        )  # fmt: skip

    def __enter__(self) -> Server:
        """Take the signals that end a program as the end of `run`, from now on."""
        if threading.current_thread() is threading.main_thread():
            self._signals = {one: signal.signal(one, lambda *_: self.stop()) for one in ENDS}
        return self

    def __exit__(self, *_: object) -> None:
        """End all access and all threads, and remove the files: nothing of the server is left."""
        self._ended.set()
        self.access.close()
        self.pages.close()
        self._actions.close()
        self.nodes.close()
        if self._path:
            self._path.unlink(missing_ok=True)
        self.listening.close()
        for number, handler in self._signals.items():
            signal.signal(number, handler)

    def run(self) -> None:
        """Serve until the end."""
        # Nobody can be asked on a terminal from a page: an error names the secret and the command that takes it.
        SHARED.ask = None
        watch = threading.Thread(target=self._watch_idle, name="idle", daemon=True)
        watch.start()
        try:
            self._uvicorn.run(sockets=[self.listening])
        finally:
            self._ended.set()
            watch.join()

    def under_way(self) -> list[str]:
        """Name the work on nodes that is not at its end: the process waits for it."""
        return self._actions.under_way()

    def stop(self) -> None:
        """Have `run` end; callable from every thread."""
        self._uvicorn.end()

    def _watch_idle(self) -> None:
        while not self._ended.wait(min(1.0, self._idle_s / 4 or 1.0)):
            idle_s = time.monotonic() - self._guard.last_request
            if self.pages.is_watched:
                self._guard.last_request = time.monotonic()
            elif self._idle_s and idle_s > self._idle_s:
                self.stop()


class _Quiet(uvicorn.Server):
    """uvicorn that ends its streams when it is asked to end, and ends with `run` and not by the signal."""

    def __init__(self, config: uvicorn.Config, close_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._close_streams = close_streams

    def end(self) -> None:
        self.should_exit = True
        self._close_streams()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the server of the pages."""
        yield


def on_port(nodes_file: Path, *, read_only: bool = False, idle_s: float = 0.0) -> Server:
    """Return a server on a free port of loopback; its file lets one browser in, once."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits 40 ms for an ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind((HOST, 0))
    listening.listen(BACKLOG)
    port = listening.getsockname()[1]
    access = Access(f"http://{HOST}:{port}", runtime_dir() / f"ui-{port}.html")
    return _server(listening, access, nodes_file, read_only=read_only, idle_s=idle_s)


def on_socket(path: Path, origin: str, nodes_file: Path, *, read_only: bool = False) -> Server:
    """Return a server on a Unix socket of mode 0600; browsers come to it as `origin`, through ssh -L or a proxy.

    Its file always has a token: each use makes a new one.
    """
    private_socket.ensure_free(path)
    access = Access(origin, path.with_suffix(".html"), renews=True)
    return _server(private_socket.bind(path), access, nodes_file, read_only=read_only, path=path)


def _server(
    listening: socket.socket,
    access: Access,
    nodes_file: Path,
    *,
    read_only: bool,
    idle_s: float = 0.0,
    path: Path | None = None,
) -> Server:
    try:
        server = Server(listening, access, nodes_file, read_only=read_only, idle_s=idle_s, path=path)
        access.offer()
    except BaseException:
        listening.close()
        raise
    return server
