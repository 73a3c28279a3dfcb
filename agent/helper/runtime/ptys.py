"""The terminals of runtimes: an instance of devpts beside the node's.

In the node's own instance are the terminals of people who come in through its sshd. That of somebody whose login is
also a workspace's belongs to whoever is inside: they would read what is typed there for another workspace.
"""

from __future__ import annotations

import os

from agent.shared.names import PTYS
from agent.shared.run import run

OPTIONS = "mode=0620,ptmxmode=0666,gid=5,nosuid,noexec"
PROPERTY = f"BindPaths={PTYS}:/dev/pts"


def ensure() -> None:
    """Mount it, for all runtimes, if it is not there: once after each boot. PID 1 does it, who may."""
    if not os.path.ismount(PTYS):  # what PID 1 mounts, the helper sees at once
        os.makedirs(PTYS, exist_ok=True)
        words = ("mount", "--types", "devpts", "--options", OPTIONS, "devpts", PTYS)
        run("systemd-run", "--quiet", "--wait", "--collect", "--", *words)
