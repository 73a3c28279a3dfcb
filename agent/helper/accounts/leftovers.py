"""What a user leaves outside its home and workspaces: files in shared directories, mail, message queues, memory.

Other users write in these directories meanwhile. So: held descriptors and O_NOFOLLOW all the way, no path is looked up
twice, nothing that belongs to somebody else is removed or given away, and there is a deadline. A directory of the user
is root's before anything in it is touched, and its inner directories of the user are renamed up into a root-only one,
so any depth takes few descriptors, and any number of them constant memory. What stays is named.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from typing import Iterator, List, Optional, Tuple

from agent.helper.trees.trees import DIRECTORY
from agent.shared.errors import AgentError
from agent.shared.run import run

# Where everybody may write, and what is written for somebody.
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
# While others wait; what takes longer is done after the answer, then for so long.
LIMIT_S, LATER_S = 5.0, 600.0
DEPTH_MAX = 200
LEFTOVERS_MAX = 100
TRASH = ".codesmith-sweep-"
CLOSED, READABLE = 0o700, 0o755
# Kind of System V object, its table and the option of ipcrm that takes its id.
IPC = (("shm", "-m"), ("sem", "-s"), ("msg", "-q"))
IPC_AT_ONCE, IPC_S = 200, 5.0


def sweep(uid: int, limit_s: float) -> Tuple[List[str], bool]:
    """Remove everything of this uid in the shared places; return the paths that stay, and whether time ran out.

    No process of it may run.
    """
    left = remove_ipc(uid)
    deadline = time.monotonic() + limit_s
    for place in PLACES:
        try:
            base = os.open(place, DIRECTORY)
        except OSError:
            continue  # this node has no such place
        try:
            left += Sweep(place, base, uid, deadline).run()
        finally:
            os.close(base)
    return left[:LEFTOVERS_MAX], time.monotonic() > deadline


def remove_ipc(uid: int) -> List[str]:
    """Remove the System V objects that the uid owns or made, as that uid: our root lacks the capability.

    A set-uid program that the user left with another login can stop ipcrm, but neither what starts it nor its end.
    """
    deadline = time.monotonic() + IPC_S
    become = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
    for kind, option in IPC:
        ids = _ipc_of(kind, uid)
        for start in range(0, len(ids), IPC_AT_ONCE):
            words = [word for one in ids[start : start + IPC_AT_ONCE] for word in (option, one)]
            left_s = max(deadline - time.monotonic(), 0)
            try:
                run("setpriv", *become, "ipcrm", *words, allowed=range(256), timeout_s=left_s)
            except AgentError:
                return _ipc_left(uid)  # no setpriv, or stopped
    return _ipc_left(uid)


def _ipc_left(uid: int) -> List[str]:
    return [f"System V {kind} {one}" for kind, _ in IPC for one in _ipc_of(kind, uid)]


def _ipc_of(kind: str, uid: int) -> List[str]:
    """Return the ids of the objects of one kind that a uid owns or made."""
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            heads, *rows = [line.split() for line in file]
    except (OSError, ValueError):
        return []
    columns = [heads.index("uid"), heads.index("cuid")]
    return [row[1] for row in rows if str(uid) in [row[column] for column in columns]]


class Sweep:
    """One pass over one place."""

    def __init__(self, place: str, base: int, uid: int, deadline: float) -> None:
        self._place, self._base, self._uid, self._deadline = place, base, uid, deadline
        self._device = os.fstat(base).st_dev
        self._left: List[str] = []
        # Directories in the trash are numbered: those from `_done` on are still to be emptied.
        self._done, self._made = 0, 0
        self._trash, self._trash_name = -1, ""

    def run(self) -> List[str]:
        """Return the paths that stay."""
        try:
            self._walk(self._base, self._place, 0)
            while self._done < self._made and not self._is_late():
                self._empty_one(str(self._done))
                self._done += 1
        finally:
            self._close_trash()
        if self._is_late():
            self._left.append(f"{self._place} (not searched to its end)")
        return self._left

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _walk(self, folder: int, path: str, depth: int) -> None:
        """Remove what is the user's in a directory of somebody else, and in the directories below it."""
        for name in _names(folder):
            if self._is_late():
                return
            found = self._look(folder, name, path)
            if found is None:
                continue
            try:
                if stat.S_ISDIR(found.st_mode):
                    self._enter(folder, name, f"{path}/{name}", depth)
                elif found.st_uid == self._uid:
                    os.unlink(name, dir_fd=folder)
                if found.st_uid == 0 and TRASH in path + name:
                    os.rmdir(name, dir_fd=folder)  # of a sweep that was cut off, if it is empty by now
            except FileNotFoundError:
                continue
            except OSError as error:
                if found.st_uid == self._uid:
                    self._keep(f"{path}/{name}", error)

    def _look(self, folder: int, name: str, path: str) -> Optional[os.stat_result]:
        """Return what an entry is; None when it is gone or another file system is mounted there."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # a file system in user space whose server has ended: of the user, maybe
                self._keep(f"{path}/{name}", error)
            return None
        return found if found.st_dev == self._device else None

    def _enter(self, folder: int, name: str, path: str, depth: int) -> None:
        """Go on in an inner directory; one of the user is emptied and removed."""
        inner = os.open(name, DIRECTORY, dir_fd=folder)
        try:
            found = os.fstat(inner)
            if found.st_dev != self._device:
                return
            if self._is_his(found):
                if self._drain(inner, path, depth):
                    os.rmdir(name, dir_fd=folder)
            elif depth < DEPTH_MAX:
                self._walk(inner, path, depth + 1)
            else:
                self._keep(f"{path} (not searched: too deep)")
        finally:
            os.close(inner)

    def _drain(self, folder: int, path: str, depth: int) -> bool:
        """Empty a directory of the user, which is root's from now on; False when things of others stay in it."""
        # Its group tells whose it was, should this be cut off.
        os.fchmod(folder, CLOSED)
        os.fchown(folder, 0, self._uid)
        for name in _names(folder):
            if self._is_late():
                return False  # it stays taken over: the next sweep knows it by that
            found = self._look(folder, name, path)
            try:
                if found is not None and self._is_his(found) and stat.S_ISDIR(found.st_mode):
                    self._move_up(folder, name)
                elif found is not None and stat.S_ISDIR(found.st_mode):
                    self._enter(folder, name, f"{path}/{name}", depth + 1)
                elif found is not None and found.st_uid == self._uid:
                    os.unlink(name, dir_fd=folder)
            except OSError as error:
                self._keep(f"{path}/{name}", error)
        if self._is_late():
            return False
        if any(_names(folder)):
            os.fchmod(folder, READABLE)
            os.fchown(folder, 0, 0)
            self._keep(path)
            return False
        return True

    def _is_his(self, found: os.stat_result) -> bool:
        """Tell whether something is the user's, or a directory that a sweep which was cut off had taken over.

        A directory of root's that has its group from the user's would be set-gid, which those are not.
        """
        taken = (stat.S_IFDIR | CLOSED, 0, self._uid)
        return found.st_uid == self._uid or (found.st_mode, found.st_uid, found.st_gid) == taken

    def _move_up(self, folder: int, name: str) -> None:
        """Rename a directory of the user into the root-only one; nobody but root can write where it comes from."""
        if self._trash < 0:
            self._trash_name = TRASH + secrets.token_hex(8)
            os.mkdir(self._trash_name, CLOSED, dir_fd=self._base)
            self._trash = os.open(self._trash_name, DIRECTORY, dir_fd=self._base)
        os.rename(name, str(self._made), src_dir_fd=folder, dst_dir_fd=self._trash)
        self._made += 1

    def _empty_one(self, name: str) -> None:
        path = f"{self._place}/{self._trash_name}/{name}"
        try:
            self._enter(self._trash, name, path, 0)
        except OSError as error:
            self._keep(path, error)

    def _close_trash(self) -> None:
        if self._trash < 0:
            return
        try:
            os.rmdir(self._trash_name, dir_fd=self._base)
        except OSError:
            os.fchmod(self._trash, READABLE)  # what others own in it stays theirs to reach
        os.close(self._trash)

    def _keep(self, path: str, error: Optional[OSError] = None) -> None:
        if len(self._left) < LEFTOVERS_MAX:
            self._left.append(f"{path} ({error.strerror})" if error else path)


def _names(folder: int) -> Iterator[str]:
    """Give the names in a directory, a bounded number at a time in memory."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
