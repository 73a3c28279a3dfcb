"""The Unix sockets of both servers: the one that systemd passes, and the peer of a connection."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Tuple

FIRST_DESCRIPTOR = 3


def systemd_socket() -> int:
    """Return the descriptor of the listening socket that systemd passed (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        sys.exit("error: no socket from systemd\nhint: systemctl start codesmith-agent.socket codesmith-helper.socket")
    os.set_inheritable(FIRST_DESCRIPTOR, False)
    return FIRST_DESCRIPTOR


def peer_uid(connection: socket.socket) -> int:
    """Return the uid of the peer of a Unix socket (SO_PEERCRED, unix(7))."""
    return _peer(connection)[1]


def peer_pid(connection: socket.socket) -> int:
    """Return the process id of the peer of a Unix socket."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> Tuple[int, int, int]:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    return pid, uid, gid
