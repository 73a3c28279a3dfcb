"""A local Unix socket that accepts: private from birth, never taken from a live owner or over a foreign file."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.tunnel.acceptor import Acceptor, Handler

BACKLOG = 4096  # a client with a time-out gets EAGAIN, not a wait, where the queue of a Unix socket is full


class PrivateSocket:
    """Accepts at `path` and gives every connection to `handler` in a thread of its own; the handler closes it."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        ensure_free(path)
        listening = _bind(path)
        found = path.lstat()
        self._identity = (found.st_dev, found.st_ino)
        self._acceptor = Acceptor(path.name, listening, handler)

    def is_in_place(self) -> bool:
        """Return whether the file at our path still is our socket."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Stop accepting and remove the file, if it still is ours. Connections already accepted go on."""
        self._acceptor.stop()
        if self.is_in_place():
            self.path.unlink(missing_ok=True)
        self._acceptor.close()


def ensure_free(path: Path) -> None:
    """Return if `path` may be bound: nothing there, or a stale socket of ours; raise and touch nothing otherwise."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise CodeSmithError(f"{path} is in the way: not a socket of ours", hint=f"look at it, then: rm {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # stale: the rename in _bind replaces it
        except OSError:
            pass  # full backlog or slow: somebody is there
    raise CodeSmithError(f"{path} is served by another process", hint="see which: ss -xlp")


def _bind(path: Path) -> socket.socket:
    """Return a socket that already accepts when it appears at `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    temporary.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of the socket's own inode is that of the file which bind makes: 0600 from birth, no umask games.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(os.fspath(temporary))
        sock.listen(BACKLOG)
        temporary.rename(path)
    except OSError as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise CodeSmithError(
            f"cannot make the socket {path}: {error.strerror}", hint=f"ls -ld {path.parent}; df {path.parent}"
        ) from error
    return sock
