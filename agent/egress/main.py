"""`agent.pyz egress FOLDER`: serves the socket that systemd passes, by the policy in FOLDER."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket

from agent.egress.denied import DeniedHosts
from agent.egress.policy import PolicyFile
from agent.egress.server import USUAL, Limits, Server
from agent.shared.sockets import systemd_socket

# Of each connection: the client's side and the server's.
DESCRIPTORS_EACH, DESCRIPTORS_OWN = 2, 64


def main(folder: str) -> int:
    """Serve until SIGTERM."""
    listening = socket.socket(fileno=systemd_socket())
    # A resolver thread may wait for DNS for long: nobody waits for it here.
    asyncio.run(_serve(listening, folder))
    os._exit(0)


async def _serve(listening: socket.socket, folder: str) -> None:
    denied = DeniedHosts(os.environ.get("RUNTIME_DIRECTORY"))
    server = Server(listening, PolicyFile(folder), denied, limits=Limits(connections=connections_max()))
    serving = asyncio.ensure_future(server.serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def connections_max() -> int:
    """Return how many connections fit into this process's descriptors, whose limit is raised as far as it goes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = USUAL.connections * DESCRIPTORS_EACH + DESCRIPTORS_OWN
    descriptors = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))
    return max((descriptors - DESCRIPTORS_OWN) // DESCRIPTORS_EACH, 1)
