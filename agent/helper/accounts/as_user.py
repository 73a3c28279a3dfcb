"""Run an action with a user's rights and no others, within a time limit."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Callable, Optional

from agent.helper.ledger import lock
from agent.shared.errors import InUse

LIMIT_S = 10.0


def act(uid: int, action: Callable[[], None], *, limit_s: float = LIMIT_S, real_uid: int = 0) -> None:
    """Run `action` in a child with the user's rights; raise its OSError here, or InUse when it takes too long.

    Only the effective uid changes. The real and saved uid are root's, or one that nobody has, so the user can neither
    stop, kill nor trace the child. The kernel checks every file access with the user's rights: a process whose
    effective uid is not 0 has no effective capability.
    """
    source, sink = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _act(uid, real_uid, action, sink)
    os.close(sink)
    try:
        answer = _read(source, time.monotonic() + limit_s)
    finally:
        os.close(source)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        raise InUse(f"an action as uid {uid} does not end within {limit_s:.0f} s", hint="try again")
    if answer != b"0":
        number = int(answer or b"5")
        raise OSError(number, os.strerror(number))


def _act(uid: int, real_uid: int, action: Callable[[], None], sink: int) -> None:
    """Run in the child: answer with "0" or the number of the error, and exit."""
    number = 5  # EIO, for an exception that is not an OSError: a bug
    try:
        lock.close_in_child()
        os.setgroups([])
        os.setegid(uid)
        os.setresuid(real_uid, uid, real_uid)
        os.umask(0o077)
        action()
        number = 0
    except OSError as error:
        number = error.errno or number
    finally:
        os.write(sink, str(number).encode())
        os._exit(0)


def _read(source: int, deadline: float) -> Optional[bytes]:
    """Return the child's answer; None after the deadline."""
    left_s = max(deadline - time.monotonic(), 0)
    return os.read(source, 16) if select.select([source], [], [], left_s)[0] else None
