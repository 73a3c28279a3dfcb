"""A stdio bridge to the agent's socket, for sshd that forbids stream-local forwarding."""

from __future__ import annotations

import os
import select
import socket
import sys

from agent.shared.names import AGENT_SOCKET

CHUNK_BYTES = 65536


def dial(path: str = AGENT_SOCKET) -> int:
    """Copy both ways until the agent closes; the end of standard input is passed on as a half-close."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(path)
    except OSError as error:
        # A login outside of the clients' group is let in by prepare; nothing has to be started for it.
        mend = "prepare" if isinstance(error, PermissionError) else "start"
        sys.stderr.write(f"error: {path}: {error.strerror}\nhint: inv node.{mend}\n")
        return 1
    sources = [0, agent.fileno()]
    while agent.fileno() in sources:
        for ready in select.select(sources, [], [])[0]:
            if ready != 0:
                data = agent.recv(CHUNK_BYTES)
                if not data:
                    return 0
                _write_all(1, data)
                continue
            data = os.read(0, CHUNK_BYTES)
            if data:
                agent.sendall(data)
            else:
                agent.shutdown(socket.SHUT_WR)
                sources.remove(0)
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
