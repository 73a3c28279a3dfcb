"""A file that reserves space on the disk of a store. It is released on a full disk, so that a change can end.

A new change begins only while the reserve exists. So its space is left for ending changes, and for deletions, which
make room.
"""

from __future__ import annotations

import errno
import os

from agent.shared import os_errors

NAME = "ballast"
SIZE_BYTES = 1 << 20


class DiskReserve:
    """The reserved space of one directory: SIZE_BYTES."""

    def __init__(self, folder: str) -> None:
        self.folder, self.path = folder, os.path.join(folder, NAME)

    def ensure(self) -> None:
        """Create the file if it is missing; LimitReached when the disk has no room for it, or none besides it."""
        try:
            if not self.has_room():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not self._exists():
                self._create()
        except OSError as error:
            kind = "has no quota left" if error.errno == errno.EDQUOT else "is full"
            problem = f"the disk of {self.folder} {kind}: only changes that make room are carried out"
            raise os_errors.no_room(error, self.folder, problem) from None

    def has_room(self) -> bool:
        """Return whether the disk has room for a new change."""
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize >= SIZE_BYTES

    def release(self) -> bool:
        """Free the reserved space; False when there is none."""
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True

    def _exists(self) -> bool:
        try:
            file = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return file.st_size == SIZE_BYTES and file.st_blocks * 512 >= SIZE_BYTES

    def _create(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)
