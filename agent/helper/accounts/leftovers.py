"""Remove what a user leaves outside its home and workspaces: files in shared directories, mail, IPC objects.

Other users write in these directories at the same time. So every step uses held descriptors and O_NOFOLLOW, no path is
looked up twice, nothing of another owner is removed or given away, and there is a deadline. A directory of the user
becomes root's before its entries are touched. Its inner directories are renamed up into a root-only directory, so any
depth takes few descriptors and any number of entries constant memory. What cannot be removed is reported.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Iterator, List, Optional, Tuple

from agent.helper.trees.trees import DIRECTORY
from agent.shared.errors import AgentError
from agent.shared.run import run

# Directories that everybody may write to, and those with files per user.
PLACES = (
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/run/lock",
    "/run/screen",
    "/var/mail",
    "/var/crash",
    "/var/spool",
)
# How long other changes wait for a sweep, and how long the rest of it may take after the reply.
LIMIT_S, AFTER_REPLY_S = 5.0, 600.0
DEPTH_MAX = 200
LEFTOVERS_MAX = 100
TRASH = ".codesmith-sweep-"
CLOSED, READABLE = 0o700, 0o755
# Each kind of System V object, and the option of ipcrm that takes its id.
IPC = (("shm", "-m"), ("sem", "-s"), ("msg", "-q"))
IPC_AT_ONCE, IPC_S = 200, 5.0


def sweep(uid: int, limit_s: float) -> Tuple[List[str], bool]:
    """Remove everything of this uid in PLACES; return the paths that stay, and whether the time ran out.

    Its processes must have ended.
    """
    left = remove_ipc(uid)
    deadline = time.monotonic() + limit_s
    for place in PLACES:
        try:
            base = os.open(place, DIRECTORY)
        except OSError:
            continue  # this node has no such directory
        try:
            left += Sweep(place, base, uid, deadline).run()
        finally:
            os.close(base)
    return left[:LEFTOVERS_MAX], time.monotonic() > deadline


def remove_ipc(uid: int) -> List[str]:
    """Remove the System V objects that the uid owns or made; return what stays.

    Done as that uid, because the helper lacks CAP_IPC_OWNER. A set-uid program that the user left with another login
    can stop ipcrm, but not the helper, which kills it after IPC_S.
    """
    deadline = time.monotonic() + IPC_S
    become = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
    for kind, option in IPC:
        ids = ipc_of(kind, uid)
        for start in range(0, len(ids), IPC_AT_ONCE):
            words = [word for one in ids[start : start + IPC_AT_ONCE] for word in (option, one)]
            left_s = max(deadline - time.monotonic(), 0)
            try:
                run("setpriv", *become, "ipcrm", *words, allowed=range(256), timeout_s=left_s)
            except AgentError:
                return _ipc_left(uid)  # there is no setpriv, or the time is over
    return _ipc_left(uid)


def _ipc_left(uid: int) -> List[str]:
    return [f"System V {kind} {one}" for kind, _ in IPC for one in ipc_of(kind, uid)]


def ipc_of(kind: str, uid: int) -> List[str]:
    """Return the ids of the objects of one kind that a uid owns or made."""
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            heads, *rows = [line.split() for line in file]
    except (OSError, ValueError):
        return []
    columns = [heads.index("uid"), heads.index("cuid")]
    return [row[1] for row in rows if str(uid) in [row[column] for column in columns]]


class Sweep:
    """One pass over one directory of PLACES."""

    def __init__(self, place: str, base: int, uid: int, deadline: float) -> None:
        self._place, self._base, self._uid, self._deadline = place, base, uid, deadline
        self._device = os.fstat(base).st_dev
        self._left: List[str] = []
        # Directories in the trash are numbered; those from `_done` on still have to be emptied.
        self._done, self._made = 0, 0
        self._trash, self._trash_name = -1, ""

    def run(self) -> List[str]:
        """Return the paths that stay."""
        try:
            self._walk(self._base, self._place, 0)
            while self._done < self._made and not self.is_late():
                self._empty_one(str(self._done))
                self._done += 1
        finally:
            self._close_trash()
        if self.is_late():
            self._left.append(f"{self._place} (search not finished)")
        return self._left

    def is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _walk(self, folder: int, path: str, depth: int) -> None:
        """Remove what belongs to the user in a directory of another owner, and in the directories below it."""
        for name in _names(folder):
            if self.is_late():
                return
            status = self._look(folder, name, path)
            if status is None:
                continue
            try:
                if stat.S_ISDIR(status.st_mode):
                    self._enter(folder, name, f"{path}/{name}", depth)
                elif status.st_uid == self._uid:
                    os.unlink(name, dir_fd=folder)
                if status.st_uid == 0 and TRASH in path + name:
                    os.rmdir(name, dir_fd=folder)  # left by an interrupted sweep; works if it is empty by now
            except FileNotFoundError:
                continue
            except OSError as error:
                if status.st_uid == self._uid:
                    self._report(f"{path}/{name}", error)

    def _look(self, folder: int, name: str, path: str) -> Optional[os.stat_result]:
        """Return the status of an entry; None when it is gone or another file system is mounted there."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # a FUSE file system whose server has ended; it may be the user's
                self._report(f"{path}/{name}", error)
            return None
        return status if status.st_dev == self._device else None

    def _enter(self, folder: int, name: str, path: str, depth: int) -> None:
        """Search an inner directory; empty and remove one that belongs to the user."""
        inner = os.open(name, DIRECTORY, dir_fd=folder)
        try:
            status = os.fstat(inner)
            if status.st_dev != self._device:
                return
            if self._is_users(status):
                if self._empty_directory(inner, path, depth):
                    os.rmdir(name, dir_fd=folder)
            elif depth < DEPTH_MAX:
                self._walk(inner, path, depth + 1)
            else:
                self._report(f"{path} (not searched: too deep)")
        finally:
            os.close(inner)

    def _empty_directory(self, folder: int, path: str, depth: int) -> bool:
        """Take over and empty a directory of the user; False when entries of other owners stay in it."""
        # The group shows the next sweep whose it was, should this one be interrupted.
        os.fchmod(folder, CLOSED)
        os.fchown(folder, 0, self._uid)
        for name in _names(folder):
            if self.is_late():
                return False  # it stays taken over, so the next sweep recognizes it
            status = self._look(folder, name, path)
            try:
                if status is not None and self._is_users(status) and stat.S_ISDIR(status.st_mode):
                    self._move_up(folder, name)
                elif status is not None and stat.S_ISDIR(status.st_mode):
                    self._enter(folder, name, f"{path}/{name}", depth + 1)
                elif status is not None and status.st_uid == self._uid:
                    os.unlink(name, dir_fd=folder)
            except OSError as error:
                self._report(f"{path}/{name}", error)
        if self.is_late():
            return False
        if any(_names(folder)):
            os.fchmod(folder, READABLE)
            os.fchown(folder, 0, 0)
            self._report(path)
            return False
        return True

    def _is_users(self, status: os.stat_result) -> bool:
        """Tell whether an entry belongs to the user, or is a directory that an interrupted sweep had taken over.

        A directory of root that inherited the user's group would be set-gid; those taken over are not.
        """
        taken = (stat.S_IFDIR | CLOSED, 0, self._uid)
        return status.st_uid == self._uid or (status.st_mode, status.st_uid, status.st_gid) == taken

    def _move_up(self, folder: int, name: str) -> None:
        """Rename a directory of the user into the root-only trash; only root can write to its parent by now."""
        if self._trash < 0:
            self._trash_name = TRASH + os.urandom(8).hex()
            os.mkdir(self._trash_name, CLOSED, dir_fd=self._base)
            self._trash = os.open(self._trash_name, DIRECTORY, dir_fd=self._base)
        os.rename(name, str(self._made), src_dir_fd=folder, dst_dir_fd=self._trash)
        self._made += 1

    def _empty_one(self, name: str) -> None:
        path = f"{self._place}/{self._trash_name}/{name}"
        try:
            self._enter(self._trash, name, path, 0)
        except OSError as error:
            self._report(path, error)

    def _close_trash(self) -> None:
        if self._trash < 0:
            return
        try:
            os.rmdir(self._trash_name, dir_fd=self._base)
        except OSError:
            os.fchmod(self._trash, READABLE)  # so that other owners can reach their files in it
        os.close(self._trash)

    def _report(self, path: str, error: Optional[OSError] = None) -> None:
        if len(self._left) < LEFTOVERS_MAX:
            self._left.append(f"{path} ({error.strerror})" if error else path)


def _names(folder: int) -> Iterator[str]:
    """Yield the names in a directory with constant memory."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
