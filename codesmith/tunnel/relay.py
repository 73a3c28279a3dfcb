"""Carry bytes between one local connection and one stream to the agent, with both half-closes."""

from __future__ import annotations

import select
import socket
import threading
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
    """What a relay needs of an SSH channel; `codesmith.ssh.transport.NodeChannel` is one."""

    def recv(self, nbytes: int, /) -> bytes:
        """Return some bytes, b"" at the end."""

    def recv_ready(self) -> bool:
        """Return whether bytes wait to be received."""

    def sendall(self, data: bytes, /) -> None:
        """Send all data, or raise OSError."""

    def shutdown_write(self) -> None:
        """Send the end of data in this direction."""

    def close(self) -> None:
        """End both directions."""

    def on_end(self, tell: Callable[[], None], /) -> None:
        """Call `tell` once the far end sends no more, or the stream is closed."""

    @property
    def closed(self) -> bool:
        """Whether the stream ended in both directions."""

    @property
    def eof_received(self) -> bool:
        """Whether the far end sent its end of data."""


class Relay:
    """One stream to the agent and the local connection that it serves.

    `on_silent_end` is called before the local connection sees that the far end ended the stream without an answer: with
    no byte at all, or with none after the last that went up.
    """

    def __init__(self, stream: Stream, local: socket.socket, on_silent_end: Callable[[], None]) -> None:
        self._stream, self._local, self._on_silent_end = stream, local, on_silent_end
        self._is_ending = self._is_answered = False

    def serve(self) -> None:
        """Carry bytes until both directions have ended; RuntimeError if no thread is left for it."""
        reader = threading.Thread(target=self._down, name="relay down", daemon=True)
        try:
            reader.start()
        except RuntimeError:
            end(self._stream)
            raise
        try:
            while data := self._local.recv(CHUNK):
                self._is_answered = False
                for begin in range(0, len(data), PACKET):
                    self._stream.sendall(data[begin : begin + PACKET])
            self._is_ending = True
            if not _has_hung_up(self._local, 0):
                self._stream.shutdown_write()
                _has_hung_up(self._local)
        except LOST:
            pass  # one end is gone; the reading thread still carries what the other sends
        self._is_ending = True
        end(self._stream)
        reader.join()

    def _down(self) -> None:
        try:
            while data := self._receive():
                self._is_answered = True
                self._local.sendall(data)
            if not self._is_answered and not self._is_ending:
                self._on_silent_end()
            self._local.shutdown(socket.SHUT_RDWR if self._stream.closed else socket.SHUT_WR)
        except OSError:
            end(self._stream)  # the local end is gone; this also wakes a blocked sendall

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(CHUNK)
        except LOST:
            return b""


def is_over(stream: Stream) -> bool:
    """Return whether nothing may be sent by it any more: the far end has ended it, or sent something unasked."""
    return stream.closed or stream.eof_received or stream.recv_ready()


def end(stream: Stream) -> None:
    """Close a stream, without an error if its connection is ending at this moment."""
    try:
        stream.close()
    except LOST:
        pass


def _has_hung_up(local: socket.socket, within_ms: int | None = None) -> bool:
    """Wait until the local end is closed or both directions are shut down; a half-closed one may still read."""
    poll = select.poll()
    poll.register(local, 0)  # POLLHUP is always reported
    return bool(poll.poll(within_ms))
