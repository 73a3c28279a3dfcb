"""Carry bytes between two sockets until both directions have ended; the end of one direction is passed on."""

from __future__ import annotations

import contextlib
import socket
import threading

CHUNK_BYTES = 1 << 16


def splice(one: socket.socket, other: socket.socket) -> None:
    """Return when both directions have ended. The caller closes the sockets."""
    for end in (one, other):
        end.settimeout(None)
    back = threading.Thread(target=_carry, args=(other, one), name="stream", daemon=True)
    back.start()
    _carry(one, other)
    back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one of them is gone: end the other direction too
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
