"""The processes of a user: found by the uids of each of their threads, and ended, whatever the user does meanwhile."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import time
from typing import Dict, Iterator, NamedTuple, Optional, Set, Tuple

from agent.helper.accounts import as_user
from agent.shared import uids
from agent.shared.errors import InUse
from agent.shared.names import LOGIN_PREFIX, login_of

ROUNDS = 100
PAUSE_S = 0.02
KILL_S = 5.0
# How often a folder of /proc is listed again while there is something new in it.
LOOKS = 20
# No node gives them to anybody, and no range of ours has them (systemd's table of uids): above the 16-bit uids, and,
# where those do not exist, below systemd's own, which begin at 61184.
NOBODYS: Tuple[int, ...] = (*range(69999, 65535, -1), *range(61183, 60577, -1))
STATUS = re.compile(rb"^State:\s(\S).*?^Uid:((?:\s\d+){4})$.*?^Threads:\s(\d+)$", re.MULTILINE | re.DOTALL)

# Pid and start time: a pid comes back.
Process = Tuple[int, bytes]


class Thread(NamedTuple):
    """What /proc tells of one thread."""

    is_alive: bool
    uids: Tuple[int, ...]
    threads: int


class Look(NamedTuple):
    """One look at all processes: those with a uid and the real uid that they have it with, and all uids seen."""

    found: Dict[Process, int]
    uids: Set[int]


def end_logins(name: str) -> None:
    """End what sshd is doing for a login, as root: a login that was let in a moment ago has no process of the uid yet.

    sshd writes into its title whom it serves before it asks whether that one may log in.
    """
    title = rf"sshd(-session|-auth)?: {re.escape(login_of(name))} \[[a-z]+\]\s*"
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            # In this order: the command line of a user's process is memory that the user may keep from being read.
            if _thread(f"/proc/{entry}").uids == (0, 0, 0, 0) and re.fullmatch(title, _command_line(entry)):
                os.kill(int(entry), signal.SIGKILL)
        except OSError:
            continue  # it has ended


def end_all(uid: int) -> None:
    """End every process of a uid; InUse when some survive.

    kill(-1) as the user reaches its own all at once; picking them one by one loses to a fork bomb.
    """
    for _ in range(ROUNDS):
        look = _look(uid)
        if not look.found:
            return
        _end(uid, look)
    raise _survive(uid, look.found)


def end_present(uid: int) -> None:
    """End every process that a uid has now; InUse when some survive.

    Unlike `end_all` it ends although the user logs in again and again.
    """
    _end(uid, _look(uid))
    look = _look(uid)
    present = set(look.found)
    for _ in range(ROUNDS):
        if not present:
            return
        _end(uid, look)
        look = _look(uid)
        present &= set(look.found)
    raise _survive(uid, {one: real for one, real in look.found.items() if one in present})


def exist(uid: int) -> bool:
    """Tell whether any thread has this uid, be it as its real, effective, saved or file system's.

    A zombie does not count. A process whose first thread has ended is called one, but its other threads work on.
    """
    return bool(_look(uid).found)


def _look(uid: int) -> Look:
    """Look at every thread of every process, also at those that begin meanwhile."""
    look = Look({}, set())
    for entry in _entries("/proc"):
        try:
            real = _real_uid(entry, uid, look.uids)
            if real is not None:
                look.found[int(entry), _started(entry)] = real
        except OSError:
            continue  # it has ended
    return look


def _real_uid(pid: str, uid: int, seen: Set[int]) -> Optional[int]:
    """Return the real uid of a process that has `uid` in one of its threads, root's only if no other has; else None."""
    first = _thread(f"/proc/{pid}")
    threads = [first] if first.threads <= 1 else _threads(pid)
    found = None
    for thread in threads:
        if thread.is_alive:
            seen.update(thread.uids)
            if uid in thread.uids:
                found = found or thread.uids[0]
    return found


def _threads(pid: str) -> Iterator[Thread]:
    for entry in _entries(f"/proc/{pid}/task"):
        try:
            yield _thread(f"/proc/{pid}/task/{entry}")
        except OSError:
            continue  # it has ended


def _entries(folder: str) -> Iterator[str]:
    """Name the numbered entries of a folder of /proc, and those that come while they are looked at.

    Who goes on from one process or thread to the next all the time is not overlooked.
    """
    seen: Set[str] = set()
    for _ in range(LOOKS):
        new = [entry for entry in os.listdir(folder) if entry not in seen and entry.isdigit()]
        if not new:
            return
        yield from new
        seen.update(new)


def _thread(folder: str) -> Thread:
    with open(f"{folder}/status", "rb", buffering=0) as file:
        match = STATUS.search(file.read())
    if match is None:
        raise ProcessLookupError(errno.ESRCH, f"{folder} has ended")
    state, uids, threads = match.groups()
    return Thread(state not in (b"Z", b"X"), tuple(map(int, uids.split())), int(threads))


def _started(pid: str) -> bytes:
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    if not fields:
        raise ProcessLookupError(errno.ESRCH, f"{pid} has ended")
    return fields[19]


def _end(uid: int, look: Look) -> None:
    """Send SIGKILL to all processes of a uid at once, then to those that have it with another login's real uid."""
    _end_own(uid, _nobodys(look.uids))
    for process, real in look.found.items():
        # With root's real uid a server acts for the user for a moment, maybe for others too: it is waited for.
        if real != 0:
            _end_one(process, uid)
    time.sleep(PAUSE_S)  # the kernel reaps; there is nothing to wait on for processes that are not our children


def _end_own(uid: int, nobodys: int) -> None:
    """Send SIGKILL to what the user itself could send it to: kill(-1) with its effective uid.

    A real uid of root's would reach root's processes, and one of the user's would let it stop the sender.
    """
    try:
        as_user.act(uid, lambda: os.kill(-1, signal.SIGKILL), real_uid=nobodys, limit_s=KILL_S)
    except OSError:
        pass  # there was none; or such a sender for another uid has ended this one, and the next round is ours


def _nobodys(seen: Set[int]) -> int:
    """Return a uid that exists here, and that neither an account, a process nor somebody's subordinates have."""
    subordinates = uids.subordinates()
    for uid in NOBODYS:
        if uid in seen or uids.owners_of(uid, subordinates) or not uids.is_mapped(uid):
            continue
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    raise InUse(f"all uids from {NOBODYS[-1]} to {NOBODYS[0]} are in use, or do not exist on this node")


def _end_one(process: Process, uid: int) -> None:
    """Send SIGKILL to one process as root, unless it has the uid no more or another one has got its pid."""
    pid, started = process
    try:
        descriptor = _descriptor(pid)
        try:
            if _started(str(pid)) == started and _real_uid(str(pid), uid, set()):
                if descriptor is None:
                    os.kill(pid, signal.SIGKILL)
                else:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    except OSError:
        pass  # it has ended


def _descriptor(pid: int) -> Optional[int]:
    """Return a descriptor of a process, None where the kernel has none (before Linux 5.3)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise


def _survive(uid: int, found: Dict[Process, int]) -> InUse:
    others = sorted(set(found.values()) - {0, uid})
    hint = "try again"
    for other in others:
        try:
            login = pwd.getpwuid(other).pw_name
        except KeyError:
            continue
        if login.startswith(LOGIN_PREFIX):
            hint = f"login {login!r} runs them: `inv user.disable {login[len(LOGIN_PREFIX) :]}`, then try again"
    return InUse(f"processes of uid {uid} do not end", hint=hint)


def _command_line(pid: str) -> str:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        return file.read(256).replace("\0", " ")
