"""Open a socket to a node's sshd: directly, through ProxyJump gateways, or through a ProxyCommand."""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from codesmith.ssh.connect_errors import NoNameServer, only_openssh, translate_gateway_refusal
from codesmith.ssh.connection import Connection
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.gateway import gateway_of
from codesmith.ssh.target import Target

PROXY_ENDS_WITHIN_S = 2.0

Connect = Callable[[Target, Deadline], Connection]


def open_socket(target: Target, deadline: Deadline, connect: Connect) -> tuple[Any, Callable[[], None]]:
    """Return a socket to the node's sshd, and a function that ends the gateway or ProxyCommand behind it.

    `connect` opens the connection to a gateway.
    """
    if target.only_openssh:
        raise only_openssh(target)
    gateway = gateway_of(target)
    if gateway:
        return _through_gateway(target, gateway, deadline, connect)
    if target.proxy_command:
        return _through_command(target.proxy_command)
    return _open_directly(target.host, target.port, deadline), lambda: None


def _open_directly(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Try all addresses of the name, each with its share of the time that is left."""
    addresses = _addresses(host, port, deadline)
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left_s() / (len(addresses) - number + 1))
            sock.connect(address)
            sock.settimeout(deadline.left_s())
            return sock
        except OSError:
            sock.close()
            if number == len(addresses):
                raise
    raise socket.gaierror(f"no address for {host}")


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Look the name up; NoNameServer if that takes too long: a dead name server blocks getaddrinfo for minutes."""
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError:  # not a DNS name: a label is empty or too long
            answers.put(socket.gaierror(f"no address for {host}"))

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left_s())
    except queue.Empty:
        raise NoNameServer(f"the name {host!r} could not be looked up within {deadline.timeout_s:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _through_gateway(
    target: Target, gateway: Target, deadline: Deadline, connect: Connect
) -> tuple[Any, Callable[[], None]]:
    connection = connect(gateway, deadline)
    try:
        with translate_gateway_refusal(target, gateway):
            channel = connection.transport.open_channel(
                "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=deadline.left_s()
            )
    except BaseException:
        connection.close()
        raise
    return channel, connection.close


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
