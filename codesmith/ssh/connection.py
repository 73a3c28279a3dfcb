"""An open, verified SSH connection to a node.

Fabric opens it; the host key is judged before anything of ours is sent; whatever paramiko or a socket raises leaves
this module as an error of ours.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import fabric
import paramiko

from codesmith import debug
from codesmith.errors import CodeSmithError
from codesmith.secrets import SHARED, SecretRequest, Secrets
from codesmith.ssh import hostkeys
from codesmith.ssh.carrier import FABRIC
from codesmith.ssh.connect_errors import TurnedAway, ended, is_turned_away, translated, turned_away
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.heartbeat import Heartbeat
from codesmith.ssh.hostkeys import HostKey, Pin
from codesmith.ssh.identities import NodeAuth
from codesmith.ssh.proxy import open_socket
from codesmith.ssh.script import ScriptResult, run_script
from codesmith.ssh.target import Target, ensure_identity
from codesmith.ssh.transport import NodeTransport

T = TypeVar("T")
# What says more than the words with which sshd ends the connection for it.
CLEAR = (CodeSmithError, paramiko.ssh_exception.IncompatiblePeer)

__all__ = ["NodeConnection", "ScriptResult", "connect", "fetch_host_key", "run_script"]


class NodeConnection(fabric.Connection):  # type: ignore[misc]
    """A fabric.Connection that knows its target and takes its gateway along when it closes."""

    # Class attributes first: Fabric turns unknown attributes into configuration.
    carrier: str = FABRIC
    target: Target | None = None
    release: Callable[[], None] | None = None
    secrets: Secrets = SHARED
    heartbeat: Heartbeat | None = None
    through: NodeConnection | None = None

    @property
    def why_lost(self) -> str:
        """Return why the connection, or that to its gateway, was given up; nothing if it was not."""
        own = self.heartbeat.why_lost if self.heartbeat else ""
        said = getattr(self.client.get_transport(), "farewell", "")
        return (self.through.why_lost if self.through else "") or own or (said and f"its sshd said: {said}")

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the reason when the connection is given up."""
        if self.heartbeat:
            self.heartbeat.on_lost = tell

    def close(self) -> None:
        """Close the connection, its gateway or proxy command."""
        if self.heartbeat:
            self.heartbeat.stop()
        super().close()
        if self.client.get_transport() is not None:
            self.client.close()
        if self.release:
            self.release()


class _Verify(paramiko.MissingHostKeyPolicy):
    """Judges the host key. Paramiko's own tables stay empty, so that every key comes here, before any login."""

    def __init__(self, target: Target, pins: list[Pin], deadline: Deadline) -> None:
        self._target, self._pins, self._deadline = target, pins, deadline
        self.is_verified = False

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        hostkeys.verify(self._target, HostKey(key.get_name(), key.asbytes()), self._pins)
        self.is_verified = True
        transport = client.get_transport()
        if transport is not None:  # the login comes next
            transport.auth_timeout = self._deadline.left_s()


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> NodeConnection:
    """Return an open connection to `target`: host key verified, logged in, where need be with one of `secrets`.

    HostKeyUnknown and HostKeyChanged come before any credential is sent; AuthenticationFailed says what was tried;
    Unreachable says what was in the way. All of it, gateways included, has `timeout_s`; what a person is asked for
    (SecretNeeded where nobody can be asked) is asked between two connections, and each has that time. From then on a
    heartbeat watches it: a connection whose network is gone ends by itself.
    """

    connection = secrets.supply(lambda given: attempt(target, timeout_s, given))
    connection.secrets = secrets
    return connection


def attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> NodeConnection:
    """Connect once, with the secrets that are `given`; SecretNeeded names one that is wanted."""
    ensure_identity(target)
    with debug.shown("ssh", f"{target} connect") as told:
        opened = persist(partial(_connect, given), target, Deadline(timeout_s))
        told.append(str(opened.transport.remote_version))
    return opened


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` shows now; no login is tried."""
    return SHARED.supply(lambda given: persist(partial(_fetch_host_key, given), target, Deadline(timeout_s)))


def persist(once: Callable[[Target, Deadline], T], target: Target, deadline: Deadline) -> T:
    """Try again while sshd turns us away: it drops connections by chance when many begin at once (MaxStartups)."""
    for tries in itertools.count(1):
        try:
            return once(target, deadline)
        except TurnedAway as error:
            if tries >= error.attempts or not deadline.pause():
                raise
    raise AssertionError


def _connect(given: Mapping[SecretRequest, str], target: Target, deadline: Deadline) -> NodeConnection:
    pins = hostkeys.pins(target)
    policy = _Verify(target, pins, deadline)
    gateways: list[NodeConnection] = []

    def enter(gateway: Target, deadline: Deadline) -> NodeConnection:
        gateways.append(_enter(given, gateway, deadline))
        return gateways[-1]

    with translated(target, deadline.timeout_s):
        sock, release = open_socket(target, deadline, enter)
        connection = _fabric_connection(target, sock, pins, deadline.left_s(), given)
        connection.target, connection.release = target, release
        connection.through = gateways[-1] if gateways else None
        connection.client.set_missing_host_key_policy(policy)
        try:
            with deadline.guard(partial(sock.shutdown, socket.SHUT_RDWR)) as late:
                connection.open()
        except BaseException as error:
            transport = connection.client.get_transport()
            connection.close()
            sock.close()
            if late.is_set():
                raise TimeoutError from error
            if is_turned_away(error, transport):
                raise turned_away(target, getattr(transport, "said", "")) from error
            if isinstance(transport, NodeTransport) and transport.farewell and not isinstance(error, CLEAR):
                raise ended(target, transport.farewell) from error
            raise
    if not policy.is_verified:
        connection.close()
        raise CodeSmithError(f"node {target.name}: its host key was not verified")
    connection.heartbeat = Heartbeat(connection.transport, target.name)
    return connection


def _enter(given: Mapping[SecretRequest, str], gateway: Target, deadline: Deadline) -> NodeConnection:
    """Connect to a gateway, which may turn us away like any node."""
    return persist(partial(_connect, given), gateway, deadline)


def _fetch_host_key(given: Mapping[SecretRequest, str], target: Target, deadline: Deadline) -> HostKey:
    with translated(target, deadline.timeout_s):
        sock, release = open_socket(target, deadline, partial(_enter, given))
        transport = NodeTransport(sock, host_key_types=_wire_types(hostkeys.pins(target)))
        transport.banner_timeout = deadline.left_s()
        try:
            with deadline.guard(partial(sock.shutdown, socket.SHUT_RDWR)) as late:
                transport.start_client(timeout=deadline.left_s())
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, EOFError, OSError) as error:
            if late.is_set():
                raise TimeoutError from error
            if is_turned_away(error, transport):
                raise turned_away(target, transport.said) from error
            if transport.farewell:
                raise ended(target, transport.farewell) from error
            raise
        finally:
            transport.close()
            sock.close()
            release()
    return HostKey(key.get_name(), key.asbytes())


def _fabric_connection(
    target: Target, sock: Any, pins: list[Pin], timeout_s: float, given: Mapping[SecretRequest, str]
) -> NodeConnection:
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
    return NodeConnection(target.host, user=target.user, port=target.port, config=config, connect_kwargs=kwargs)


def _wire_types(pins: list[Pin]) -> list[str]:
    return list(hostkeys.wire_types(hostkeys.pinned_types(pins)))
