"""The Unix sockets of both servers: the one that systemd passes, and the peer of a connection."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Dict, Tuple

FIRST_DESCRIPTOR = 3


def systemd_sockets() -> Dict[str, int]:
    """Return the descriptors of the listening sockets that systemd passed, by name (sd_listen_fds_with_names(3))."""
    count = os.environ.get("LISTEN_FDS", "0")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or count == "0":
        sys.exit("error: no socket from systemd\nhint: systemctl start codesmith-agent.socket codesmith-helper.socket")
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return dict(zip(os.environ.get("LISTEN_FDNAMES", "").split(":"), descriptors))


def systemd_socket() -> int:
    """Return the descriptor of the one listening socket that systemd passed."""
    return next(iter(systemd_sockets().values()))


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
