"""Carry bytes between one local connection and one stream to the agent, with both half-closes."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from paramiko import SSHException

# What paramiko sends in one packet. Given more, it copies all that is left with each packet.
PACKET = (32 << 10) - 64
# Pieces of one packet would halve the speed: each costs a lock and a system call. For more than 128 KiB malloc asks
# the kernel for new memory each time.
CHUNK = 4 * PACKET
# What any method of a stream, close() included, may raise if its SSH connection ends at that moment.
LOST = (OSError, EOFError, SSHException)


class Stream(Protocol):
    """What a relay needs of an SSH channel; paramiko's Channel is one."""

    def recv(self, nbytes: int, /) -> bytes:
        """Return some bytes, b"" at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send all data, or raise OSError."""

    def shutdown_write(self) -> None:
        """Send the end of data in this direction."""

    def close(self) -> None:
        """End both directions."""

    @property
    def closed(self) -> bool:
        """Whether the stream ended in both directions."""

    @property
    def eof_received(self) -> bool:
        """Whether the far end sent its end of data."""


class Relay:
    """One stream to the agent, opened ahead as a spare or for a local connection.

    Its reading thread starts at once. So a spare notices by itself that the far end closes it (`on_lost`), and a local
    connection that takes a spare need not wait for a thread to start.
    """

    def __init__(self, stream: Stream, on_lost: Callable[[], None]) -> None:
        self._stream, self._on_lost = stream, on_lost
        self._lock = threading.Lock()
        self._local: socket.socket | None = None
        self.is_lost = False
        self.born = time.monotonic()
        self._reader = threading.Thread(target=self._down, name="relay down", daemon=True)
        self._reader.start()

    def attach(self, local: socket.socket) -> bool:
        """Give the stream to a local connection; return False if it has ended already."""
        with self._lock:
            if self.is_lost or self._stream.closed or self._stream.eof_received:
                return False
            self._local = local
            return True

    def serve(self, local: socket.socket) -> None:
        """Carry bytes until both directions have ended; call it once, after `attach`."""
        try:
            while data := local.recv(CHUNK):
                for begin in range(0, len(data), PACKET):
                    self._stream.sendall(data[begin : begin + PACKET])
            self._stream.shutdown_write()
            _wait_hangup(local)
        except LOST:
            pass  # one end is gone; the reading thread still carries what the other sends
        end(self._stream)
        self._reader.join()

    def close(self) -> None:
        """End the stream; a local connection sees the end of its answer."""
        end(self._stream)

    def _down(self) -> None:
        data = self._receive()
        with self._lock:
            local = self._local
            self.is_lost = local is None
        if local is None:  # a spare: the agent closed it, or sent something unasked
            end(self._stream)
            self._on_lost()
            return
        try:
            while data:
                local.sendall(data)
                data = self._receive()
            local.shutdown(socket.SHUT_RDWR if self._stream.closed else socket.SHUT_WR)
        except OSError:
            end(self._stream)  # the local end is gone; this also wakes a blocked sendall

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(CHUNK)
        except LOST:
            return b""


def end(stream: Stream) -> None:
    """Close a stream, without an error if its connection is ending at this moment."""
    try:
        stream.close()
    except LOST:
        pass


def _wait_hangup(local: socket.socket) -> None:
    """Return when the local end is closed or both directions are shut down; a half-closed one may still read."""
    poll = select.poll()
    poll.register(local, 0)  # POLLHUP is always reported
    poll.poll()
