"""A file that holds room on the disk of a store, let go when the disk is full: what was begun can be written down.

Whoever wants to begin something new first sees that it stands, and is refused otherwise: so the room that it holds is
left to what ends a change, and to deletions, which make room.
"""

from __future__ import annotations

import errno
import os

from agent.shared import os_errors

NAME = "ballast"
SIZE_BYTES = 1 << 20


class DiskReserve:
    """The reserve of one directory."""

    def __init__(self, folder: str) -> None:
        self.folder, self.path = folder, os.path.join(folder, NAME)

    def ensure(self) -> None:
        """Make it if it does not stand; LimitReached when the disk has no room for it, or none beside it."""
        try:
            if not self.has_room():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not self._stands():
                self._make()
        except OSError as error:
            kind = "has no quota left" if error.errno == errno.EDQUOT else "is full"
            problem = f"the disk of {self.folder} {kind}: only what makes room is done"
            raise os_errors.no_room(error, self.folder, problem) from None

    def has_room(self) -> bool:
        """Tell whether the disk has room for something new."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize >= SIZE_BYTES

    def let_go(self) -> bool:
        """Give the room back; False when there was none to give."""
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True

    def _stands(self) -> bool:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return found.st_size == SIZE_BYTES and found.st_blocks * 512 >= SIZE_BYTES

    def _make(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        except OSError:
            self.let_go()
            raise
        finally:
            os.close(descriptor)
