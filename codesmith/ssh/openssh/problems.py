"""Turn the log of an ssh that failed into an error, the same error as the first carrier raises."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Sequence

import paramiko

from codesmith.errors import CodeSmithError
from codesmith.ssh import connect_errors
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.openssh.login_errors import DENIED, login_error
from codesmith.ssh.passwords import TOO_MANY
from codesmith.ssh.target import Target

MESSAGE_MAX = 300
# RFC 4254, 5.1: a reason why a channel is not opened.
CONNECT_FAILED = 2
HOST_KEY = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY DETECTED")
ALGORITHM = re.compile(r"no matching .* found\. Their offer: .*")
CHANNEL = re.compile(r"open failed: (administratively prohibited|connect failed|resource shortage|.*?): ?(.*)")
# In the order in which they occur while connecting; the exception is the one that the first carrier gets.
NETWORK = {
    r"Could not resolve hostname|Name or service not known": socket.gaierror(),
    r"Connection refused": ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    r"No route to host": OSError(errno.EHOSTUNREACH, "No route to host"),
    r"Network is unreachable": OSError(errno.ENETUNREACH, "Network is unreachable"),
    r"[Tt]imed out|timed out": TimeoutError(),
}
CLOSED = re.compile(r"kex_exchange_identification|banner exchange|Connection (?:closed|reset) by")
NOISE = re.compile(r"debug\d: |OpenSSH_|Authenticated to |Warning: Permanently added|\s*$|Disconnected from")


def is_host_key(lines: Sequence[str]) -> bool:
    """Return whether ssh refused a host key."""
    return any(HOST_KEY.search(line) for line in lines)


def explain(hops: Sequence[Target], lines: Sequence[str], askpass: AskPass, timeout_s: float) -> CodeSmithError:
    """Return the error for an ssh that ended before it was logged in."""
    messages = user_messages(lines)
    if askpass.missing or askpass.used or any(DENIED.search(line) or TOO_MANY in line for line in messages):
        return login_error(hops, lines, messages, askpass)
    text = "\n".join(messages)
    if len(hops) > 1 and (match := CHANNEL.search(text)):
        return _gateway_error(hops, match)
    if match := ALGORITHM.search(text):
        return connect_errors.unreachable(hops[0], paramiko.ssh_exception.IncompatiblePeer(match[0]), timeout_s)
    for pattern, error in NETWORK.items():
        if re.search(pattern, text):
            return connect_errors.unreachable(_failed_hop(hops, text), error, timeout_s)
    if any("SSH2_MSG_NEWKEYS received" in line for line in lines):
        return login_error(hops, lines, messages, askpass)
    if CLOSED.search(text):
        reason = next((line for line in lines if re.search(connect_errors.DROP_REASONS, line)), "")
        return connect_errors.dropped_before_banner(hops[0], reason.rpartition(": ")[2])
    why = "; ".join(messages)[-MESSAGE_MAX:] or "it said nothing"
    return connect_errors.unreachable(hops[0], paramiko.SSHException(f"ssh: {why}"), timeout_s)


def _gateway_error(hops: Sequence[Target], match: re.Match[str]) -> CodeSmithError:
    """Return the error for a gateway that opens no connection to the node behind it."""
    code = connect_errors.PROHIBITED if match[1].startswith("admin") else CONNECT_FAILED
    try:
        with connect_errors.translate_gateway_refusal(hops[0], hops[1]):
            raise paramiko.ChannelException(code, match[2] if code == CONNECT_FAILED else match[1])
    except CodeSmithError as error:
        return error


def user_messages(lines: Sequence[str]) -> list[str]:
    """Return the lines that are meant for a person: those without debugging."""
    return [line.strip() for line in lines if not NOISE.match(line)]


def _failed_hop(hops: Sequence[Target], text: str) -> Target:
    """Return the hop that ssh's message names; a gateway comes before the node behind it."""
    return next((hop for hop in reversed(hops) if hop.host in text), hops[0])
