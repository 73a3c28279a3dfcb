"""The processes of a job: found by session, ancestry and mark, and killed until none is left.

A process that leaves its session, its parents and its environment behind is not found while other jobs or SSH sessions
go on; it ends with the last job, or with the runtime.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Collection, Dict, Iterator, NamedTuple, Set, Tuple

from agent.shared.paths import JOB_MARK

SET_CHILD_SUBREAPER = 36  # prctl(2)
OOM_SCORE = b"600"


class Process(NamedTuple):
    """What /proc/PID/stat says of a process that is no zombie."""

    parent: int
    session: int


def become_subreaper() -> None:
    """Become the parent of all orphans among what this process starts."""
    if ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def prefer_for_oom(pid: int) -> None:
    """Let the kernel end this process before the supervisor when memory runs out."""
    try:
        descriptor = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # it has ended
    try:
        os.write(descriptor, OOM_SCORE)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def others(known: Collection[int]) -> Set[int]:
    """Return the children of this process that are not in `known`: orphans of what has ended or still runs."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:
            return {int(word) for word in file.read().split()} - set(known)
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return {pid for pid, process in _all() if process.parent == me} - set(known)


def count() -> int:
    """Return how many processes of this login there are beside this one."""
    return len(everything())


def everything() -> Set[int]:
    """Return all processes of this login but this one."""
    return {pid for pid, _ in _all() if pid != os.getpid() and _is_ours(pid)}


def of_job(leader: int, mark: str) -> Set[int]:
    """Return the processes of a job: the leader, its session, what has the job's mark, and all below these."""
    there = dict(_all())
    there.pop(os.getpid(), None)
    wanted = f"{JOB_MARK}={mark}".encode()
    found = {pid for pid, process in there.items() if leader in (pid, process.session) or wanted in _environment(pid)}
    while True:
        below = {pid for pid, process in there.items() if process.parent in found} - found
        if not below:
            return found
        found |= below


def kill(leader: int, pids: Collection[int]) -> None:
    """Send SIGKILL to a job's processes and to their process groups, its leader's first.

    A process that goes on to a child again and again is missed by its pid, and not by its group. The leader comes
    first because a shell would end by itself when what it waits for is killed.
    """
    own = os.getpgrp()
    groups = {leader}
    for pid in pids:
        try:
            groups.add(os.getpgid(pid))
        except OSError:
            continue  # it has ended
    for group in sorted(groups - {own}, key=lambda one: one != leader):
        _send(-group)
    for pid in pids:
        _send(pid)


def kill_everything() -> None:
    """Send SIGKILL to all processes of this login but this one, at once."""
    _send(-1)


def _send(target: int) -> None:
    try:
        os.kill(target, signal.SIGKILL)
    except OSError:
        pass  # it has ended


def _all() -> Iterator[Tuple[int, Process]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            # The name of a program may hold spaces and parentheses.
            state, parent, _, session = text[text.rindex(b")") + 2 :].split()[:4]
            if state not in (b"Z", b"X"):
                yield int(name), Process(int(parent), int(session))


def _is_ours(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False


def _environment(pid: int) -> Dict[bytes, None]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return dict.fromkeys(file.read().split(b"\0"))
    except OSError:
        return {}
