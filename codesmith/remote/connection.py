"""An open, verified SSH connection to a node.

Fabric opens it; the host key is judged before anything of ours is sent; whatever paramiko or a socket raises leaves
this module as an error of ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fabric
import paramiko

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.remote import hostkeys
from codesmith.remote.hostkeys import HostKey, Pin
from codesmith.remote.identities import NodeAuth
from codesmith.remote.script import ScriptResult, run_script
from codesmith.remote.target import SSH_PORT, Target, resolve_host
from codesmith.remote.transport import NodeTransport

__all__ = ["NodeConnection", "ScriptResult", "connect", "fetch_host_key", "run_script", "unreachable"]

MAX_JUMPS = 8
PROXY_ENDS_WITHIN_S = 2.0


class NodeConnection(fabric.Connection):  # type: ignore[misc]
    """A fabric.Connection that knows its target and takes its gateway along when it closes."""

    # Class attributes first: Fabric turns unknown attributes into configuration.
    target: Target | None = None
    release: Callable[[], None] | None = None

    def close(self) -> None:
        """Close the connection, its gateway or proxy command."""
        super().close()
        if self.client.get_transport() is not None:
            self.client.close()
        if self.release:
            self.release()


class _Verify(paramiko.MissingHostKeyPolicy):
    """Judges the host key. Paramiko's own tables stay empty, so that every key comes here, before any login."""

    def __init__(self, target: Target, pins: list[Pin]) -> None:
        self._target, self._pins = target, pins
        self.is_verified = False

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        hostkeys.verify(self._target, HostKey(key.get_name(), key.asbytes()), self._pins)
        self.is_verified = True


def connect(target: Target, *, timeout_s: float = 10.0) -> NodeConnection:
    """Return an open connection to `target`: host key verified, logged in.

    HostKeyUnknown and HostKeyChanged come before any credential is sent; AuthenticationFailed says what was tried;
    Unreachable says what was in the way.
    """
    pins = hostkeys.pins(target)
    policy = _Verify(target, pins)
    with _translated(target, timeout_s):
        sock, release = _open_socket(target, timeout_s)
        connection = _fabric_connection(target, sock, pins, timeout_s)
        connection.target, connection.release = target, release
        connection.client.set_missing_host_key_policy(policy)
        try:
            connection.open()
        except BaseException:
            connection.close()
            sock.close()
            raise
    if not policy.is_verified:
        connection.close()
        raise CodeSmithError(f"node {target.name}: its host key was not verified")
    return connection


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` shows now; no login is tried."""
    with _translated(target, timeout_s):
        sock, release = _open_socket(target, timeout_s)
        transport = NodeTransport(sock, host_key_types=_wire_types(hostkeys.pins(target)))
        transport.banner_timeout = timeout_s
        try:
            transport.start_client(timeout=timeout_s)
            key = transport.get_remote_server_key()
        finally:
            transport.close()
            sock.close()
            release()
    return HostKey(key.get_name(), key.asbytes())


def unreachable(target: Target, error: BaseException, timeout_s: float) -> Unreachable:
    """Say why `target` could not be reached."""
    return Unreachable(f"node {target}: {_reason(target, error, timeout_s)}", hint=_how_to_look(target))


def _fabric_connection(target: Target, sock: Any, pins: list[Pin], timeout_s: float) -> NodeConnection:
    config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())  # read nothing: the target is complete
    kwargs = {
        "sock": sock,
        "transport_factory": partial(NodeTransport, host_key_types=_wire_types(pins)),
        "auth_strategy": NodeAuth(target),
        "timeout": timeout_s,
        "banner_timeout": timeout_s,
        "auth_timeout": timeout_s,
        "channel_timeout": timeout_s,
    }
    return NodeConnection(target.host, user=target.user, port=target.port, config=config, connect_kwargs=kwargs)


def _wire_types(pins: list[Pin]) -> list[str]:
    return list(hostkeys.wire_types(hostkeys.pinned_types(pins)))


def _nothing() -> None:
    """Nothing to let go of: the socket was the node's own."""


def _open_socket(target: Target, timeout_s: float) -> tuple[Any, Callable[[], None]]:
    """Return a socket to the node's sshd, through its gateway if it has one, and what closes that gateway."""
    if target.proxy_jump:
        return _through_gateway(target, target.proxy_jump, timeout_s)
    if target.proxy_command:
        return _through_command(target.proxy_command)
    return socket.create_connection((target.host, target.port), timeout=timeout_s), _nothing


def _through_gateway(target: Target, jump: str, timeout_s: float) -> tuple[Any, Callable[[], None]]:
    *before, last = jump.split(",")
    if len(before) >= MAX_JUMPS:
        raise CodeSmithError(f"node {target.name}: more than {MAX_JUMPS} ProxyJump hosts")
    gateway = _gateway_target(target, last.strip(), ",".join(before))
    connection = connect(gateway, timeout_s=timeout_s)
    try:
        channel = connection.transport.open_channel(
            "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=timeout_s
        )
    except BaseException:
        connection.close()
        raise
    return channel, connection.close


def _gateway_target(target: Target, jump: str, before: str) -> Target:
    text = jump.removeprefix("ssh://")
    user, _, place = text.rpartition("@")
    host, port = _host_and_port(place)
    wanted = Target(f"{target.name} via {host}", host, port, user, target.identities)
    found = resolve_host(wanted, first_known_hosts=target.known_hosts[:1])
    return found if not before else Target(**{**vars(found), "proxy_jump": before})


def _host_and_port(place: str) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return place.strip("[]"), 0


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


@contextlib.contextmanager
def _translated(target: Target, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise unreachable(target, error, timeout_s) from error


def _reason(target: Target, error: BaseException, timeout_s: float) -> str:
    if isinstance(error, socket.gaierror):
        return f"no address is known for {target.host!r}"
    if isinstance(error, TimeoutError) or str(error) in ("Timeout.", "Authentication timeout."):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"{target.host} refuses connections on port {target.port} (no sshd there?)"
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"no route to {target.host} ({os.strerror(error.errno)})"
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return f"no common algorithm with its sshd: {error}"
    if isinstance(error, paramiko.SSHException) and "banner" in str(error).lower():
        return f"what answers on port {target.port} does not speak SSH, or closed the connection at once"
    return f"the connection failed: {str(error) or type(error).__name__}"


def _how_to_look(target: Target) -> str:
    port = f" -p {target.port}" if target.port != SSH_PORT else ""
    return f"ssh -v{port} {target.user}@{target.host} true"
