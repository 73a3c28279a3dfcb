"""`agent.pyz supervisor`: PID 1 starts it with the workspace's socket, as the workspace's login, in its isolation."""

from __future__ import annotations

import os
import socket

from agent.shared.sockets import systemd_socket
from agent.supervisor import processes, settings
from agent.supervisor.loop import Loop
from agent.supervisor.server import Server
from agent.supervisor.start import allow_descriptors


def main() -> int:
    """Serve until idle; systemd keeps the socket and starts the next one."""
    os.umask(0o077)
    os.chdir("/")
    listening = socket.socket(fileno=systemd_socket())
    known = settings.read(0)
    # The file of the settings is not for what is started.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    processes.become_subreaper()
    allow_descriptors()
    Server(Loop(), listening, known).serve()
    return 0
