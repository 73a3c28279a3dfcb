"""Turn what sockets and paramiko raise while connecting into CodeSmith's errors; name the option that forbids it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator

import paramiko

from codesmith.errors import Unreachable
from codesmith.ssh.target import Target

USE_OPENSSH = "in nodes.yaml: `ssh: openssh`, or no `ssh:` at all"
# RFC 4254, 5.1: a reason why a channel is not opened.
PROHIBITED = 1
SSHD_LOG_HINT = "on the node, as root: journalctl -u ssh -u sshd -n 20"
TIMED_OUT = ("Timeout.", "Authentication timeout.")
# Limits of paramiko, not of the node: algorithms, above all.
PARAMIKO_LIMITS = (paramiko.ssh_exception.IncompatiblePeer, paramiko.ssh_exception.MessageOrderError)
# What sshd says when it drops a connection before its banner: OpenSSH up to 9.7, and later.
DROP_REASONS = r"Exceeded MaxStartups|Not allowed at this time"


class NoNameServer(OSError):
    """The name of a host could not be looked up in time."""


class ConnectionDropped(Unreachable):
    """The connection was closed before the SSH banner: sshd does so if too many arrive at once.

    `attempts` says how often to try in all.
    """

    # Without sshd's own reason this is an old sshd, or no sshd: it is not worth the whole time limit.
    attempts = 3


@contextlib.contextmanager
def translate_errors(target: Target, timeout_s: float) -> Iterator[None]:
    """Raise Unreachable for what a socket or paramiko raises inside the block."""
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise unreachable(target, error, timeout_s) from error


@contextlib.contextmanager
def translate_gateway_refusal(target: Target, gateway: Target) -> Iterator[None]:
    """Raise Unreachable, with the reason, if the gateway refuses a channel to the node behind it."""
    try:
        yield
    except paramiko.ChannelException as error:
        where = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
        if error.code == PROHIBITED:
            problem = (
                f"its gateway {gateway.host} forbids the connection to {where}: AllowTcpForwarding, PermitOpen or "
                f"DisableForwarding in its sshd_config, or `restrict` in the authorized_keys of {gateway.user}"
            )
            hint = f"on {gateway.host}, as root: sshd -T | grep -iE 'forwarding|permitopen'"
        else:
            problem = f"its gateway {gateway.host} cannot connect to {where}: {error.text or 'refused'}"
            hint = gateway.ssh_line(f"ssh -W {shlex.quote(where)}")
        raise Unreachable(f"node {target}: {problem}", hint=hint) from error


def unreachable(target: Target, error: BaseException, timeout_s: float) -> Unreachable:
    """Return the error that says why `target` could not be reached."""
    failure = Unreachable(f"node {target}: {_reason(target, error, timeout_s)}", hint=_hint(target))
    failure.openssh_may_help = isinstance(error, PARAMIKO_LIMITS) and not isinstance(error.__context__, TimeoutError)
    return failure


def ended_before_login(target: Target, message: str) -> Unreachable:
    """Return the error for a node that ended the connection before a login; `message` is its own reason."""
    return Unreachable(f"node {target}: it ended the connection; it said: {message}", hint=_hint(target))


def only_openssh(target: Target) -> Unreachable:
    """Return the error that names the option of the ssh configuration that paramiko does not support."""
    failure = Unreachable(
        f"node {target}: {target.only_openssh} in its ssh configuration needs OpenSSH",
        hint=USE_OPENSSH,
    )
    failure.openssh_may_help = True
    return failure


def dropped_before_banner(target: Target, message: str) -> ConnectionDropped:
    """Return the error for a node that closed a connection before its SSH banner; `message` is its reason, or ""."""
    if not re.search(DROP_REASONS, message):
        problem = _no_banner(target) + (f"; it said: {message}" if message else "")
        error = ConnectionDropped(f"node {target}: {problem}", hint=_hint(target))
        error.attempts = 1 if target.proxy_command else ConnectionDropped.attempts
        return error
    problem = (
        f"its sshd takes no new connections now ({message}): too many at once (MaxStartups), or a penalty for failed "
        "logins (PerSourcePenalties)"
    )
    error = ConnectionDropped(
        f"node {target}: {problem}", hint="on the node: journalctl -u ssh | grep 'drop connection'"
    )
    error.attempts = sys.maxsize
    return error


def is_dropped_before_banner(error: BaseException, transport: paramiko.Transport | None) -> bool:
    """Return whether paramiko raised `error` because the connection ended before sshd's banner."""
    if transport is None or transport.remote_version:
        return False
    cause = error.__context__ if "SSH protocol banner" in str(error) else error
    return isinstance(cause, (EOFError, ConnectionError))


def _reason(target: Target, error: BaseException, timeout_s: float) -> str:
    if isinstance(error, socket.gaierror):
        return f"no address is known for {target.host!r}"
    if isinstance(error, NoNameServer):
        return f"{error} (does the name server answer?)"
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError) or str(error) in TIMED_OUT:
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"{target.host} refuses connections on port {target.port} (no sshd there?)"
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"no route to {target.host} ({os.strerror(error.errno)})"
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return f"no common algorithm with its sshd: {error}"
    if isinstance(error, paramiko.SSHException) and "banner" in str(error).lower():
        return _no_banner(target)
    return f"the connection failed: {str(error) or type(error).__name__}"


def _no_banner(target: Target) -> str:
    if target.proxy_command:
        return f"its ProxyCommand ended, or sent no SSH banner: {target.proxy_command}"
    return f"what answers on port {target.port} does not speak SSH, or closed the connection at once"


def _hint(target: Target) -> str:
    return target.ssh_line("ssh -v", "true")
