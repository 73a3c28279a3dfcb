"""A listening Unix socket: private from its first instant; it never replaces a live socket or a foreign file."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.tunnel.acceptor import Acceptor, Handler

BACKLOG = 4096  # if the queue of a Unix socket is full, a client with a timeout gets EAGAIN at once


class PrivateSocket:
    """Accepts at `path` and gives every connection to `handler` in a thread of its own; closes it afterwards."""

    def __init__(self, path: Path, acceptor: Acceptor, handler: Handler) -> None:
        self.path = path
        ensure_free(path)
        listening = bind(path)
        info = path.lstat()
        self._identity = (info.st_dev, info.st_ino)
        self._listening = acceptor.listen(path.name, listening, handler)

    def is_in_place(self) -> bool:
        """Return whether the file at `path` is still this socket."""
        try:
            info = self.path.lstat()
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self._identity

    def close(self) -> None:
        """Stop accepting, and remove the file if it is still this socket. Connections accepted already go on."""
        if self.is_in_place():
            self.path.unlink(missing_ok=True)
        self._listening.close()


def ensure_free(path: Path) -> None:
    """Return if `path` is free or a stale socket of this user; otherwise raise CodeSmithError and change nothing."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode) or info.st_uid != os.getuid():
        raise CodeSmithError(f"{path} is in the way: not a socket of CodeSmith", hint=f"look at it, then: rm {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # stale: the rename in bind replaces it
        except OSError:
            pass  # its backlog is full, or it is slow: a process listens there
    raise CodeSmithError(f"{path} is served by another process", hint="see which: ss -xlp")


def bind(path: Path) -> socket.socket:
    """Return a listening socket, 0600, that appears at `path` only once it listens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    temporary.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # bind gives the new file the mode of the socket's own inode, so it is 0600 at once, without a umask.
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
