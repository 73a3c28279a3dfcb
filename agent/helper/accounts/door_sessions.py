"""End the sessions of a login at the node's sshd: processes of the login, and root's process behind each of them.

Root's process, which has let the login in and is about to start its session, would start it after everything of the
login was killed.
"""

from __future__ import annotations

import os
import signal
import time
from typing import List

from agent.helper.accounts import processes
from agent.shared.errors import InUse
from agent.shared.names import login_of

ROUNDS = 50
PAUSE_S = 0.02


def end(name: str, uid: int, *, spares_runtime: bool = False) -> None:
    """End everything of a login, and all that sshd has for it; InUse when some of it survives.

    `spares_runtime`: the login is that of a workspace of somebody else, and what runs there stays. Its processes of
    sshd end by themselves without root's, and `enter` with them.
    """
    for _ in range(ROUNDS):
        servers = _servers(login_of(name))
        for pid in servers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended
        if not spares_runtime:
            processes.end_all(uid)
        if not servers:
            return
        time.sleep(PAUSE_S)  # they are not our children, so there is nothing to wait on
    raise InUse(f"sessions of {login_of(name)} at the node's sshd do not end", hint="try again")


def _servers(login: str) -> List[int]:
    """Return the pids of root's processes of sshd whose title names a login; only root can write such a title."""
    heads = tuple(f"{program}: {login}{end}".encode() for program in ("sshd", "sshd-session") for end in (" ", "@"))
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    title = file.read(256) + b" "
                if title.startswith(heads) and os.stat(f"/proc/{entry}").st_uid == 0:
                    found.append(int(entry))
            except OSError:
                continue  # it has ended
    return found
