"""The way to a node's sshd: straight, through ProxyJump gateways, or through a ProxyCommand."""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fabric

from codesmith.errors import CodeSmithError
from codesmith.remote.deadline import Deadline
from codesmith.remote.reasons import NoNameServer, gateway_refused, only_openssh
from codesmith.remote.target import Target, resolve_host, split_port

MAX_JUMPS = 8
PROXY_ENDS_WITHIN_S = 2.0

Connect = Callable[[Target, Deadline], fabric.Connection]


def open_way(target: Target, deadline: Deadline, connect: Connect) -> tuple[Any, Callable[[], None]]:
    """Return a socket to the node's sshd and what closes the way behind it; `connect` enters a gateway."""
    if target.only_openssh:
        raise only_openssh(target)
    if target.proxy_jump:
        return _through_gateway(target, target.proxy_jump, deadline, connect)
    if target.proxy_command:
        return _through_command(target.proxy_command)
    return _straight(target.host, target.port, deadline), _nothing


def _nothing() -> None:
    """Nothing to let go of: the socket was the node's own."""


def _straight(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Try all addresses of the name; one that stays silent leaves the others their share of the time."""
    found = _addresses(host, port, deadline)
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left_s() / (len(found) - number + 1))
            sock.connect(address)
            sock.settimeout(deadline.left_s())
            return sock
        except OSError:
            sock.close()
            if number == len(found):
                raise
    raise socket.gaierror(f"no address for {host}")


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Look the name up; NoNameServer when that takes too long: a dead name server keeps getaddrinfo for minutes."""
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.put(error)
        except UnicodeError:  # no name of the DNS: a label is empty or too long
            found.put(socket.gaierror(f"no address for {host}"))

    threading.Thread(target=look, name=f"look up {host}", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.left_s())
    except queue.Empty:
        raise NoNameServer(f"the name {host!r} could not be looked up within {deadline.timeout_s:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _through_gateway(target: Target, jump: str, deadline: Deadline, connect: Connect) -> tuple[Any, Callable[[], None]]:
    *before, last = jump.split(",")
    gateway = gateway_target(target, last.strip(), ",".join(before))
    connection = connect(gateway, deadline)
    try:
        with gateway_refused(target, gateway):
            channel = connection.transport.open_channel(
                "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=deadline.left_s()
            )
    except BaseException:
        connection.close()
        raise
    return channel, connection.close


def gateway_target(target: Target, jump: str, before: str) -> Target:
    """Return the gateway `jump` of `target`, which the gateways `before` lead to; too many in a row are an error."""
    text = jump.removeprefix("ssh://")
    user, _, place = text.rpartition("@")
    host, port = split_port(place)
    wanted = Target(f"{target.name} via {host}", host, port, user, target.identities, jumps=target.jumps + 1)
    found = resolve_host(wanted, first_known_hosts=target.known_hosts[:1])
    if found.jumps > MAX_JUMPS:
        raise CodeSmithError(
            f"node {target.name}: more than {MAX_JUMPS} ProxyJump hosts in a row: do they lead in a circle?",
            hint=f"look: ssh -G {found.host} | grep -i proxyjump; for a host that needs none: ProxyJump none",
        )
    return found if not before else replace(found, proxy_jump=before)


def _through_command(command: str) -> tuple[socket.socket, Callable[[], None]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno())

    def end() -> None:
        ours.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PROXY_ENDS_WITHIN_S)
            return
        process.kill()
        process.wait()

    return ours, end
