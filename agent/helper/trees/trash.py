"""Empty the trash: remove trees that users cannot reach any more, while other changes go on.

The trash is on the file system of homes and workspaces, so a rename moves a tree into it. Only the deletion that filled
it waits, at most ANSWER_S; the rest is removed after its reply, and after a power cut by the next helper.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import sys
import time
from typing import Dict, List, Optional

from agent.helper.trees import trees
from agent.shared.errors import AgentError
from agent.shared.file_lock import wait_for

# At most this many names are in memory: a user with many files could otherwise make the helper run out of it.
BATCH = 1024
# At most this many entries that cannot be removed are named; so many are no accident.
STUCK_MAX = 64
# A deletion waits so long for its space to be free. Not longer: the front end makes one change at a time.
ANSWER_S = 1.0
NOT_A_DIRECTORY = (errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def empty(deadline_s: Optional[float] = ANSWER_S) -> List[str]:
    """Empty the trash within `deadline_s`, or completely if it is None; return what cannot be removed, and why.

    One process at a time does it; others wait for it until their deadline.
    """
    ends = None if deadline_s is None else time.monotonic() + deadline_s
    with trees.open_base(trees.TRASH) as trash:
        if not _names(trash, {}):
            return []
        if not wait_for(lambda: fcntl.flock(trash, fcntl.LOCK_EX | fcntl.LOCK_NB), deadline_s or 0):
            return []  # another process empties all of it
        return Emptying(trash, ends).go()


def empty_quietly() -> None:
    """Empty the trash completely; write what cannot be removed to the journal."""
    try:
        for problem in empty(None):
            print(f"cannot be removed: {problem}", file=sys.stderr, flush=True)
    except (AgentError, OSError) as error:
        print(f"the trash cannot be emptied: {error}", file=sys.stderr, flush=True)


def _names(directory: int, without: Dict[str, str]) -> List[str]:
    with os.scandir(directory) as entries:
        found = (entry.name for entry in entries if entry.name not in without)
        return list(itertools.islice(found, BATCH))


class Emptying:
    """One pass over the trash. Inner directories are renamed up into it, so any depth takes constant descriptors."""

    def __init__(self, trash: int, ends: Optional[float]) -> None:
        self._trash, self._ends, self._device = trash, ends, os.fstat(trash).st_dev
        self._stuck: Dict[str, str] = {}

    def go(self) -> List[str]:
        """Remove everything, or as much as the time allows; return what cannot be removed."""
        while names := _names(self._trash, self._stuck):
            for name in names:
                if self.is_late():
                    return []
                self._try(name)
            if len(self._stuck) > STUCK_MAX:
                break
        return [f"{trees.TRASH}/{name}: {why}" for name, why in sorted(self._stuck.items())]

    def is_late(self) -> bool:
        return self._ends is not None and time.monotonic() > self._ends

    def _try(self, name: str) -> None:
        try:
            self._take_apart(name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # a process that held it added an entry
                self._stuck[name] = error.strerror or str(error)

    def _take_apart(self, name: str) -> None:
        """Remove one entry of the trash, or a part of it; `go` repeats it for the rest."""
        try:
            descriptor = os.open(name, trees.DIRECTORY, dir_fd=self._trash)
        except OSError as error:
            if error.errno not in NOT_A_DIRECTORY:
                raise
            os.unlink(name, dir_fd=self._trash)
            return
        try:
            if os.fstat(descriptor).st_dev != self._device:
                raise OSError(errno.EBUSY, "another file system is mounted there")
            # Take it over, so that a process which still holds this directory can add nothing more.
            os.fchown(descriptor, 0, 0)
            os.fchmod(descriptor, 0o700)
            if self._flatten(descriptor):
                os.rmdir(name, dir_fd=self._trash)
        finally:
            os.close(descriptor)

    def _flatten(self, directory: int) -> bool:
        """Unlink files and move directories up into the trash, at most BATCH of these; True if nothing is left.

        A directory may have a million files, so the time is checked for each.
        """
        room, refused = BATCH, None
        with os.scandir(directory) as entries:
            for entry in entries:
                if not room or self.is_late():
                    return False
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=directory)
                        continue
                    # Renaming a directory changes its "..", which needs write permission on it: root has DAC_OVERRIDE.
                    os.rename(entry.name, os.urandom(16).hex(), src_dir_fd=directory, dst_dir_fd=self._trash)
                    room -= 1
                except OSError as error:
                    refused = error
        if refused is not None:
            raise refused
        return True
