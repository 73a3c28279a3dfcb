"""The processes of a job: found by session, ancestry and mark, and killed until none is left.

A process that leaves its session, its parents and its environment behind is not found while other jobs or SSH sessions
go on; it ends with the last job, or with the runtime.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import signal
from typing import Collection, Dict, Iterator, NamedTuple, Set, Tuple

from agent.shared import control_groups
from agent.shared.paths import JOB_MARK

# The control group of a runtime. Its login may have processes outside: those of its sessions at the node's sshd.
UNIT = re.compile(r"codesmith-workspace@[^/]+\.service")
# How often what runs is looked for until all of it is stopped.
STOP_ROUNDS = 64
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
    """Return all processes of this runtime but this one; outside of one, those of its login."""
    groups = _own_groups()
    found = control_groups.processes(groups) if groups else (pid for pid, _ in _all() if _is_ours(pid))
    return set(found) - {os.getpid()}


@functools.cache
def _own_groups() -> Dict[str, str]:
    """Return the control groups of this runtime; none when this process is not in one of its own."""
    groups = control_groups.own()
    place = groups.get(control_groups.SYSTEMD) or groups.get("") or ""
    return groups if UNIT.fullmatch(os.path.basename(place)) else {}


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
    """Send SIGKILL to all processes of this runtime but this one.

    They are stopped first: what forks while it is killed has no room for new ones, and none is missed. A signal to all
    of the login would do that at once, and end its sessions at the node's sshd too.
    """
    if not _own_groups():
        _send(-1)
        return
    stopped: Set[int] = set()
    for _ in range(STOP_ROUNDS):
        new = everything() - stopped
        if not new:
            break
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in everything():
        _send(pid)


def _send(target: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(target, number)
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
