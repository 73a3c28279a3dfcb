"""Find the processes of a login by the uids of all their threads, and kill them, whatever the login does meanwhile."""

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
from agent.shared.names import LOGIN_PREFIX

ROUNDS = 100
PAUSE_S = 0.02
KILL_S = 5.0
# How often a folder of /proc is listed again while it has new entries.
LISTINGS_MAX = 20
# Uids that no node gives out and that are in no range of CodeSmith (systemd's table of uids): those above the 16-bit
# uids, and, where these do not exist, those below systemd's own, which begin at 61184.
UNUSED_UIDS: Tuple[int, ...] = (*range(69999, 65535, -1), *range(61183, 60577, -1))
STATUS = re.compile(rb"^State:\s(\S).*?^Uid:((?:\s\d+){4})$.*?^Threads:\s(\d+)$", re.MULTILINE | re.DOTALL)

# Pid and start time, because pids are reused.
Process = Tuple[int, bytes]


class Thread(NamedTuple):
    """What /proc has about one thread."""

    is_alive: bool
    uids: Tuple[int, ...]
    threads: int


class Snapshot(NamedTuple):
    """The processes that have a uid, each with its real uid; and the uids of all processes of the node."""

    real_uids: Dict[Process, int]
    uids: Set[int]


def end_all(uid: int) -> None:
    """Kill every process of a uid; InUse when some survive.

    kill(-1) as the user reaches all its own at once; killing one by one would lose against a fork bomb.
    """
    for _ in range(ROUNDS):
        snapshot = _take_snapshot(uid)
        if not snapshot.real_uids:
            return
        _end(uid, snapshot)
    raise _survivors_error(uid, snapshot.real_uids)


def _take_snapshot(uid: int) -> Snapshot:
    """Read every thread of every process, also of those that start meanwhile.

    A zombie does not count. /proc also calls a process a zombie whose first thread has ended while others run; those
    count.
    """
    snapshot = Snapshot({}, set())
    for entry in _entries("/proc"):
        try:
            real = _real_uid(entry, uid, snapshot.uids)
            if real is not None:
                snapshot.real_uids[int(entry), _started(entry)] = real
        except OSError:
            continue  # it has ended
    return snapshot


def _real_uid(pid: str, uid: int, seen: Set[int]) -> Optional[int]:
    """Return the real uid of a thread that has `uid`, preferably not root's; None if no thread has it."""
    first = _thread(f"/proc/{pid}")
    threads = [first] if first.threads <= 1 else _threads(pid)
    real = None
    for thread in threads:
        if thread.is_alive:
            seen.update(thread.uids)
            if uid in thread.uids:
                real = real or thread.uids[0]
    return real


def _threads(pid: str) -> Iterator[Thread]:
    for entry in _entries(f"/proc/{pid}/task"):
        try:
            yield _thread(f"/proc/{pid}/task/{entry}")
        except OSError:
            continue  # it has ended


def _entries(folder: str) -> Iterator[str]:
    """Yield the numbered entries of a folder of /proc, also those that appear meanwhile.

    So a program that keeps moving on to a new process or thread is found.
    """
    seen: Set[str] = set()
    for _ in range(LISTINGS_MAX):
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


def _end(uid: int, snapshot: Snapshot) -> None:
    """Send SIGKILL to all processes of a uid at once, then to those that have it with another login's real uid."""
    _end_own(uid, _unused_uid(snapshot.uids))
    for process, real in snapshot.real_uids.items():
        # A server with root's real uid acts for the user for a moment, maybe for others too: wait for it.
        if real != 0:
            _end_one(process, uid)
    time.sleep(PAUSE_S)  # they are not our children, so there is nothing to wait on


def _end_own(uid: int, unused_uid: int) -> None:
    """Send SIGKILL to all processes that the user could signal: kill(-1) with its effective uid.

    With root's real uid it would reach root's processes; with the user's the user could stop the sender.
    """
    try:
        as_user.act(uid, lambda: os.kill(-1, signal.SIGKILL), real_uid=unused_uid, limit_s=KILL_S)
    except OSError:
        pass  # there was none; or a sender for another uid killed this one, and the next round repeats it


def _unused_uid(seen: Set[int]) -> int:
    """Return a uid that exists on this node and that no account, process or subordinate range has."""
    subordinates = uids.subordinates()
    for uid in UNUSED_UIDS:
        if uid in seen or uids.owners_of(uid, subordinates) or not uids.is_mapped(uid):
            continue
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    raise InUse(f"all uids from {UNUSED_UIDS[-1]} to {UNUSED_UIDS[0]} are in use, or do not exist on this node")


def _end_one(process: Process, uid: int) -> None:
    """Send SIGKILL to one process as root, unless it gave up the uid or its pid was reused."""
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
    """Return a pidfd of a process; None where the kernel has none (before Linux 5.3)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise


def _survivors_error(uid: int, real_uids: Dict[Process, int]) -> InUse:
    """Return the error for processes that survive; its hint names another user's login that runs them."""
    others = sorted(set(real_uids.values()) - {0, uid})
    hint = "try again"
    for other in others:
        try:
            login = pwd.getpwuid(other).pw_name
        except KeyError:
            continue
        if login.startswith(LOGIN_PREFIX):
            hint = f"login {login!r} runs them: `inv user.disable {login[len(LOGIN_PREFIX) :]}`, then try again"
    return InUse(f"processes of uid {uid} do not end", hint=hint)
