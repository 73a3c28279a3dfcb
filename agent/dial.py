"""Connects standard input and output to the agent's socket, for an sshd that forbids forwarding to sockets."""

from __future__ import annotations

import os
import select
import socket
import sys

from agent.shared.names import AGENT_SOCKET

CHUNK_BYTES = 65536


def dial(path: str = AGENT_SOCKET) -> int:
    """Copy both ways until the agent closes, and return 0; 1 when it cannot connect.

    The end of standard input is passed on: the agent sees the end of the request.
    """
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(path)
    except OSError as error:
        # The login is not in the clients' group: prepare adds it. Otherwise the agent does not run.
        task = "prepare" if isinstance(error, PermissionError) else "start"
        sys.stderr.write(f"error: {path}: {error.strerror}\nhint: inv node.{task}\n")
        return 1
    return copy_both_ways(agent)


def copy_both_ways(agent: socket.socket) -> int:
    """Copy between standard input and output and a connection until it ends, and return 0."""
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
