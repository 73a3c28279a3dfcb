"""Why a node could not be reached: what sockets and paramiko raise, in our words, with the option that forbids it."""

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
# RFC 4254, 5.1: one of the reasons for which a channel is not opened.
PROHIBITED = 1
TIMED_OUT = ("Timeout.", "Authentication timeout.")
# Where the library here, and not the node, is what ends it: algorithms, above all.
LIMITS = (paramiko.ssh_exception.IncompatiblePeer, paramiko.ssh_exception.MessageOrderError)
# What OpenSSH says before it closes: up to 9.7, and since.
TOO_MANY = r"Exceeded MaxStartups|Not allowed at this time"


class NoNameServer(OSError):
    """A name could not be looked up in time."""


class TurnedAway(Unreachable):
    """The connection was accepted and closed before a greeting: sshd does so when too many come at once."""

    # Without sshd's own word it is an old one, or none at all: not worth all the time there is.
    attempts = 3


@contextlib.contextmanager
def translated(target: Target, timeout_s: float) -> Iterator[None]:
    """Raise what a socket or paramiko raises as an error of ours."""
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise unreachable(target, error, timeout_s) from error


@contextlib.contextmanager
def gateway_refused(target: Target, gateway: Target) -> Iterator[None]:
    """Say why a gateway opens no connection to the node behind it."""
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
    """Say why `target` could not be reached."""
    failure = Unreachable(f"node {target}: {_reason(target, error, timeout_s)}", hint=_how_to_look(target))
    failure.openssh_may_help = isinstance(error, LIMITS) and not isinstance(error.__context__, TimeoutError)
    return failure


def ended(target: Target, said: str) -> Unreachable:
    """Say that `target` ended the connection before a login, in its own words."""
    return Unreachable(f"node {target}: it ended the connection; it said: {said}", hint=_how_to_look(target))


def only_openssh(target: Target) -> Unreachable:
    """Say what of the ssh configuration paramiko does not do."""
    failure = Unreachable(
        f"node {target}: {target.only_openssh} in its ssh configuration needs OpenSSH",
        hint=USE_OPENSSH,
    )
    failure.openssh_may_help = True
    return failure


def turned_away(target: Target, said: str) -> TurnedAway:
    """Say that `target` closed a connection before its greeting; `said` is what it gave as the reason."""
    if not re.search(TOO_MANY, said):
        problem = _no_greeting(target) + (f"; it said: {said}" if said else "")
        error = TurnedAway(f"node {target}: {problem}", hint=_how_to_look(target))
        error.attempts = 1 if target.proxy_command else TurnedAway.attempts
        return error
    problem = (
        f"its sshd takes no new connections now ({said}): too many at once (MaxStartups), or a penalty for failed "
        "logins (PerSourcePenalties)"
    )
    error = TurnedAway(f"node {target}: {problem}", hint="on the node: journalctl -u ssh | grep 'drop connection'")
    error.attempts = sys.maxsize
    return error


def is_turned_away(error: BaseException, transport: paramiko.Transport | None) -> bool:
    """Say whether paramiko raised `error` because the connection ended before sshd's greeting."""
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
        return _no_greeting(target)
    return f"the connection failed: {str(error) or type(error).__name__}"


def _no_greeting(target: Target) -> str:
    if target.proxy_command:
        return f"its ProxyCommand ended, or gave no SSH greeting: {target.proxy_command}"
    return f"what answers on port {target.port} does not speak SSH, or closed the connection at once"


def _how_to_look(target: Target) -> str:
    return target.ssh_line("ssh -v", "true")
