"""The first carrier: a connection that Fabric opens, on paramiko.

The host key is verified before any credential is sent. What paramiko or a socket raises is translated here.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import fabric
import paramiko

from codesmith import debug
from codesmith.errors import CodeSmithError
from codesmith.secrets import SHARED, SecretRequest, Secrets
from codesmith.ssh import hostkeys
from codesmith.ssh.authentication import NodeAuth
from codesmith.ssh.connect_errors import (
    ConnectionDropped,
    dropped_before_banner,
    ended_before_login,
    is_dropped_before_banner,
    translate_errors,
)
from codesmith.ssh.connection import FABRIC
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.hostkeys import HostKey, Pin
from codesmith.ssh.proxy import open_socket
from codesmith.ssh.target import Target, ensure_identity
from codesmith.ssh.transport import NodeTransport

T = TypeVar("T")
# Errors that say more than sshd's reason for ending the connection.
SPECIFIC = (CodeSmithError, paramiko.ssh_exception.IncompatiblePeer)


class FabricConnection:
    """An open connection; see `ssh.connection.Connection`. It closes its gateway or ProxyCommand with itself.

    Only the transport of Fabric's connection is kept: its configuration is larger than the rest.
    """

    carrier = FABRIC

    def __init__(
        self, target: Target, transport: NodeTransport, gateway: FabricConnection | None, release: Callable[[], None]
    ) -> None:
        self.target, self.transport, self.secrets = target, transport, SHARED
        self._gateway, self._release = gateway, release
        self._is_closed, self._why_lost = False, ""
        self._tell: Callable[[str], None] = lambda _: None
        transport.watch()
        transport.on_end(self._end)

    def __enter__(self) -> FabricConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def why_lost(self) -> str:
        """Why this connection, or the one to its gateway, was lost; "" while it is open, or after `close`."""
        return (self._gateway.why_lost if self._gateway else "") or self._why_lost or self.transport.why_lost

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason when the connection is lost, at once if it is lost already."""
        self._tell = tell
        if self._why_lost:
            tell(self._why_lost)

    def close(self) -> None:
        """Close the connection and its gateway or ProxyCommand."""
        self._is_closed = True
        self.transport.close()
        self._release()

    def _end(self) -> None:
        if not self._is_closed:
            self._why_lost = self.transport.why_lost or "closed by the node"
            self._tell(self._why_lost)


class _VerifyHostKey(paramiko.MissingHostKeyPolicy):
    """Verifies the host key before any login. paramiko's own tables stay empty, so every key comes here."""

    def __init__(self, target: Target, pins: list[Pin], deadline: Deadline) -> None:
        self._target, self._pins, self._deadline = target, pins, deadline
        self.is_verified = False

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        hostkeys.verify(self._target, HostKey(key.get_name(), key.asbytes()), self._pins)
        self.is_verified = True
        transport = client.get_transport()
        if transport is not None:  # the login is the next step
            transport.auth_timeout = self._deadline.left_s()


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> FabricConnection:
    """Return an open connection to `target`: host key verified, logged in, with one of `secrets` if need be.

    HostKeyUnknown and HostKeyChanged are raised before any credential is sent. AuthenticationFailed says what was
    tried, Unreachable what was in the way. One attempt has `timeout_s`, gateways included. A person is asked for a
    secret between two attempts; SecretNeeded if nobody can be asked. The connection ends by itself when its network is
    gone.
    """

    connection = secrets.supply(lambda given: attempt(target, timeout_s, given))
    connection.secrets = secrets
    return connection


def attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> FabricConnection:
    """Connect once with the `given` secrets; SecretNeeded names the secret that is missing."""
    ensure_identity(target)
    with debug.shown("ssh", f"{target} connect") as details:
        opened = retry_while_dropped(partial(_connect, given), target, Deadline(timeout_s))
        details.append(str(opened.transport.remote_version))
    return opened


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` presents now; no login is tried."""
    return SHARED.supply(
        lambda given: retry_while_dropped(partial(_fetch_host_key, given), target, Deadline(timeout_s))
    )


def retry_while_dropped(once: Callable[[Target, Deadline], T], target: Target, deadline: Deadline) -> T:
    """Call `once` again while sshd drops connections: it picks them by chance if many begin at once (MaxStartups)."""
    for tries in itertools.count(1):
        try:
            return once(target, deadline)
        except ConnectionDropped as error:
            if tries >= error.attempts or not deadline.pause():
                raise
    raise AssertionError


def _connect(given: Mapping[SecretRequest, str], target: Target, deadline: Deadline) -> FabricConnection:
    pins = hostkeys.pins_for(target)
    policy = _VerifyHostKey(target, pins, deadline)
    gateways: list[FabricConnection] = []

    def connect_gateway(gateway: Target, deadline: Deadline) -> FabricConnection:
        gateways.append(_connect_gateway(given, gateway, deadline))
        return gateways[-1]

    with translate_errors(target, deadline.timeout_s):
        sock, release = open_socket(target, deadline, connect_gateway)
        opening = _fabric_connection(target, sock, pins, deadline.left_s(), given)
        opening.client.set_missing_host_key_policy(policy)
        try:
            with deadline.guard(partial(sock.shutdown, socket.SHUT_RDWR)) as late:
                opening.open()
        except BaseException as error:
            transport = opening.client.get_transport()
            opening.client.close()
            release()
            sock.close()
            if late.is_set():
                raise TimeoutError from error
            if is_dropped_before_banner(error, transport):
                raise dropped_before_banner(target, getattr(transport, "pre_banner_text", "")) from error
            if isinstance(transport, NodeTransport) and transport.disconnect_reason and not isinstance(error, SPECIFIC):
                raise ended_before_login(target, transport.disconnect_reason) from error
            raise
    connection = FabricConnection(target, opening.client.get_transport(), gateways[-1] if gateways else None, release)
    if not policy.is_verified:
        connection.close()
        raise CodeSmithError(f"node {target.name}: its host key was not verified")
    return connection


def _connect_gateway(given: Mapping[SecretRequest, str], gateway: Target, deadline: Deadline) -> FabricConnection:
    """Connect to a gateway; its sshd may drop connections like that of any node."""
    return retry_while_dropped(partial(_connect, given), gateway, deadline)


def _fetch_host_key(given: Mapping[SecretRequest, str], target: Target, deadline: Deadline) -> HostKey:
    with translate_errors(target, deadline.timeout_s):
        sock, release = open_socket(target, deadline, partial(_connect_gateway, given))
        transport = NodeTransport(sock, host_key_types=_wire_types(hostkeys.pins_for(target)))
        transport.banner_timeout = deadline.left_s()
        try:
            with deadline.guard(partial(sock.shutdown, socket.SHUT_RDWR)) as late:
                transport.start_client(timeout=deadline.left_s())
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, EOFError, OSError) as error:
            if late.is_set():
                raise TimeoutError from error
            if is_dropped_before_banner(error, transport):
                raise dropped_before_banner(target, transport.pre_banner_text) from error
            if transport.disconnect_reason:
                raise ended_before_login(target, transport.disconnect_reason) from error
            raise
        finally:
            transport.close()
            sock.close()
            release()
    return HostKey(key.get_name(), key.asbytes())


def _fabric_connection(
    target: Target, sock: Any, pins: list[Pin], timeout_s: float, given: Mapping[SecretRequest, str]
) -> fabric.Connection:
    config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())  # read nothing: the target is complete
    kwargs = {
        "sock": sock,
        "transport_factory": partial(NodeTransport, host_key_types=_wire_types(pins)),
        "auth_strategy": NodeAuth(target, given),
        "timeout": timeout_s,
        "banner_timeout": timeout_s,
        "auth_timeout": timeout_s,
        "channel_timeout": timeout_s,
    }
    return fabric.Connection(target.host, user=target.user, port=target.port, config=config, connect_kwargs=kwargs)


def _wire_types(pins: list[Pin]) -> list[str]:
    return list(hostkeys.wire_types(hostkeys.pinned_types(pins)))
