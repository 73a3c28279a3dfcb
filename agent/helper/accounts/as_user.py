"""Act with a user's rights and no others, within a time limit: where root itself takes on the uid of a user."""

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
    """Run `action` in a child with the user's rights; its OSError is raised here, InUse when it takes too long.

    Only the effective uid changes. With a real and saved uid of root's, or of nobody's, the user can neither stop nor
    kill nor trace the child, while the kernel checks every file access as the user's (a process whose effective uid is
    not 0 has no effective capability).
    """
    source, sink = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _act(uid, real_uid, action, sink)
    os.close(sink)
    try:
        said = _read(source, time.monotonic() + limit_s)
    finally:
        os.close(source)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said is None:
        raise InUse(f"what is done as uid {uid} does not end within {limit_s:.0f} s", hint="try again")
    if said != b"0":
        number = int(said or b"5")
        raise OSError(number, os.strerror(number))


def _act(uid: int, real_uid: int, action: Callable[[], None], sink: int) -> None:
    """The child's whole life: answer with "0" or the number of the error."""
    number = 5  # EIO: what is no OSError is a bug of ours
    try:
        lock.let_go()
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
    """Return what the child says; None when the time is over."""
    left = max(deadline - time.monotonic(), 0)
    return os.read(source, 16) if select.select([source], [], [], left)[0] else None
