"""Why ssh did not get there, from what it said: the same errors as the first carrier's."""

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

SAID_MAX = 300
# RFC 4254, 5.1.
CONNECT_FAILED = 2
HOST_KEY = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY DETECTED")
ALGORITHM = re.compile(r"no matching .* found\. Their offer: .*")
CHANNEL = re.compile(r"open failed: (administratively prohibited|connect failed|resource shortage|.*?): ?(.*)")
# In the order of the way; the exception is what the first carrier meets there.
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


def explain(places: Sequence[Target], lines: Sequence[str], askpass: AskPass, timeout_s: float) -> CodeSmithError:
    """Return the error for an ssh that ended before it was logged in."""
    said = spoken(lines)
    if askpass.missing or askpass.used or any(DENIED.search(line) or TOO_MANY in line for line in said):
        return login_error(places, lines, said, askpass)
    text = "\n".join(said)
    if len(places) > 1 and (found := CHANNEL.search(text)):
        return _stuck(places, found)
    if found := ALGORITHM.search(text):
        return connect_errors.unreachable(places[0], paramiko.ssh_exception.IncompatiblePeer(found[0]), timeout_s)
    for pattern, error in NETWORK.items():
        if re.search(pattern, text):
            return connect_errors.unreachable(_blamed(places, text), error, timeout_s)
    if any("SSH2_MSG_NEWKEYS received" in line for line in lines):
        return login_error(places, lines, said, askpass)
    if CLOSED.search(text):
        greeting = next((line for line in lines if re.search(connect_errors.TOO_MANY, line)), "")
        return connect_errors.turned_away(places[0], greeting.rpartition(": ")[2])
    why = "; ".join(said)[-SAID_MAX:] or "it said nothing"
    return connect_errors.unreachable(places[0], paramiko.SSHException(f"ssh: {why}"), timeout_s)


def _stuck(places: Sequence[Target], found: re.Match[str]) -> CodeSmithError:
    """Return why the gateway opens no connection to the node behind it."""
    code = connect_errors.PROHIBITED if found[1].startswith("admin") else CONNECT_FAILED
    try:
        with connect_errors.gateway_refused(places[0], places[1]):
            raise paramiko.ChannelException(code, found[2] if code == CONNECT_FAILED else found[1])
    except CodeSmithError as error:
        return error


def spoken(lines: Sequence[str]) -> list[str]:
    """Return what was said to a person."""
    return [line.strip() for line in lines if not NOISE.match(line)]


def _blamed(places: Sequence[Target], text: str) -> Target:
    """Return the place that is named, a gateway before the node behind it."""
    return next((place for place in reversed(places) if place.host in text), places[0])
