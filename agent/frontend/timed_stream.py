"""A connection's bytes, with time and size limits for each request and reply."""

from __future__ import annotations

import io
import socket
import struct
import time
from typing import Any, Optional

BODY_BYTES_MAX = 256 << 10
# What may come before the body. http.client alone would take 100 lines of 64 KiB.
HEAD_BYTES_MAX = 32 << 10
# For a whole request from its first byte, and for a whole reply: single bytes now and then do not prolong them.
REQUEST_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 300.0
IDLE_TIMEOUT_S = 300.0


class TimedStream(io.RawIOBase):
    """A socket with one absolute deadline for all reads and writes of a request, and a limit to the request's size.

    The kernel enforces the deadline. Python's own timeouts release the interpreter lock three times for each read or
    write: with sixteen threads only a third as many calls get through.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._connection = connection
        self._deadline, self._room, self._is_waiting, self._is_ended = 0.0, 0, True, False
        self.is_cut_short = False

    def wait_for_request(self) -> None:
        """Begin the idle time, which ends with the first byte of a request."""
        self._is_waiting = True
        self.restart(IDLE_TIMEOUT_S)

    def begin_request(self) -> None:
        """Start the deadline of a request, unless its first byte started it already."""
        if self._is_waiting:
            self._is_waiting, self._room = False, HEAD_BYTES_MAX
            self.restart(REQUEST_TIMEOUT_S)

    def expect_body(self) -> None:
        """Allow for a body in addition to the headers."""
        self._room += BODY_BYTES_MAX

    def restart(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self._deadline = time.monotonic() + seconds

    def end_reading(self) -> bool:
        """Read no byte from now on, which belong to another protocol; return whether some are there already."""
        self._is_ended = True
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing has come
            return False

    def release(self) -> None:
        """Remove the time limits from the socket, which another program uses next."""
        for which in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._connection.setsockopt(socket.SOL_SOCKET, which, struct.pack("@ll", 0, 0))

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        """Read what has arrived; return 0, as at the end of a file, after the deadline or the size limit.

        None, as when nothing has come, after `end_reading`.
        """
        if self._is_ended:
            return None
        try:
            self._set_timeout(socket.SO_RCVTIMEO)
            size = self._connection.recv_into(buffer)
        except OSError:
            size = 0
        if size and self._is_waiting:
            self.begin_request()
        self._room -= size
        self.is_cut_short = size == 0 or self._room < 0
        return 0 if self.is_cut_short else size

    def write(self, data: Any) -> int:
        """Send as much as the socket takes; socket.timeout after the deadline."""
        self._set_timeout(socket.SO_SNDTIMEO)
        try:
            return self._connection.send(data)
        except BlockingIOError:
            raise socket.timeout("the deadline has passed") from None

    def _set_timeout(self, which: int) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("the deadline has passed")
        seconds, fraction = divmod(left, 1)
        # struct timeval; all zeros would mean "no timeout".
        timeval = struct.pack("@ll", int(seconds), max(int(fraction * 1_000_000), 1))
        self._connection.setsockopt(socket.SOL_SOCKET, which, timeval)
