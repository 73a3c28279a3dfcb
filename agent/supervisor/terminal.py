"""A terminal for a job: this process holds its master, the job gets the other side as its controlling terminal.

The terminal is opened here and not by openpty(3): that wants a group `tty`, which a runtime has not.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Any, List, Tuple

from agent.supervisor.job import Channel

SET_LOCK, GET_NUMBER = 0x40045431, 0x80045430  # TIOCSPTLCK, TIOCGPTN of ioctl_tty(2)
SIZE_MAX = 65535
CONTROL_D = b"\x04"


class Terminal(Channel):
    """The terminal of one job, with the names of its pipes: what goes in, and what comes out."""

    def __init__(self, rows: int, columns: int) -> None:
        self.stdout = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.stdout, SET_LOCK, struct.pack("i", 0))
            number = struct.unpack("i", fcntl.ioctl(self.stdout, GET_NUMBER, bytes(4)))[0]
            self.path = f"/dev/pts/{number}"
            # Kept open: a job that closes its terminal, and opens it again, has not ended.
            self._theirs = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                self.sink, self.stderr = os.dup(self.stdout), -1
            except BaseException:
                os.close(self._theirs)
                raise
        except BaseException:
            os.close(self.stdout)
            raise
        self.resize(rows, columns)

    @property
    def is_open(self) -> bool:
        """Whether the job has not ended."""
        return self._theirs >= 0

    def file_actions(self) -> List[Tuple[Any, ...]]:
        """Return how posix_spawn() opens it: the leader of a session gets what it opens as controlling terminal."""
        # Closed first, so that the lowest free number is below every limit.
        opened = [(os.POSIX_SPAWN_CLOSE, 0), (os.POSIX_SPAWN_OPEN, 0, self.path, os.O_RDWR, 0)]
        return [*opened, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]

    def resize(self, rows: int, columns: int) -> None:
        """Set its size; the programs in its foreground get SIGWINCH."""
        size = [min(max(one, 1), SIZE_MAX) for one in (rows, columns)]
        try:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        except OSError:
            pass  # it was hung up

    def foreground(self) -> int:
        """Return the process group in its foreground; 0 when there is none."""
        try:
            return os.tcgetpgrp(self.stdout)
        except OSError:
            return 0

    def end_of_input(self, last: bytes) -> bytes:
        """Return what a user would type to end the input after `last`: twice when a line has begun."""
        try:
            character = bytes(termios.tcgetattr(self.stdout)[6][termios.VEOF])
        except (OSError, termios.error):  # it was hung up
            character = CONTROL_D
        return character * (1 if not last or last[-1:] in b"\r\n" else 2)

    def close_theirs(self) -> None:
        """Keep what the job has: nothing was opened for it alone."""

    def close_ours(self) -> None:
        """Close what Job does not: all of it, when the job could not be started."""
        for descriptor in (self.stdout, self.sink):
            os.close(descriptor)
        self.close_kept()

    def close_kept(self) -> None:
        """Close the other side, when the job has ended."""
        if self._theirs >= 0:
            os.close(self._theirs)
            self._theirs = -1
