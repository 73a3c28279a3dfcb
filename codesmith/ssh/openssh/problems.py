"""Turn the log of an ssh that failed into an error, the same error as the first carrier raises."""

from __future__ import annotations

import errno
import os
import re
import shlex
import socket
from collections.abc import Sequence

import paramiko

from codesmith.errors import AuthenticationFailed, CodeSmithError, SecretNeeded, SecretRefused
from codesmith.secrets import PASSPHRASE, SecretRequest
from codesmith.ssh import connect_errors
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.target import Target

MESSAGE_MAX = 300
# RFC 4254, 5.1: a reason why a channel is not opened.
CONNECT_FAILED = 2
HOST_KEY = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY DETECTED")
DENIED = re.compile(r"(?:(\S+)@(\S+): )?Permission denied \(([^)]*)\)")
PARTIAL = re.compile(r"with partial success")
TOO_MANY = re.compile(r"Too many authentication failures")
OFFERED = re.compile(r"debug1: Offering public key: (.*?)(?: [A-Z0-9-]+ SHA256:\S+)?(?: explicit| agent| token)*$")
AGENT = re.compile(r"debug1: .*ssh_get_authentication_socket: (.*)")
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
CLOSED = re.compile(r"kex_exchange_identification|banner channel|Connection (?:closed|reset) by")
ENDED = re.compile(r"^Connection closed by")
NOISE = re.compile(r"debug\d: |OpenSSH_|Authenticated to |Warning: Permanently added|\s*$|Disconnected from")


def is_host_key(lines: Sequence[str]) -> bool:
    """Return whether ssh refused a host key."""
    return any(HOST_KEY.search(line) for line in lines)


def explain(hops: Sequence[Target], lines: Sequence[str], askpass: AskPass, timeout_s: float) -> CodeSmithError:
    """Return the error for an ssh that ended before it was logged in."""
    messages = user_messages(lines)
    if askpass.missing or askpass.used or any(DENIED.search(line) or TOO_MANY.search(line) for line in messages):
        return _login_error(hops, lines, messages, askpass)
    text = "\n".join(messages)
    if len(hops) > 1 and (match := CHANNEL.search(text)):
        return _gateway_error(hops, match)
    if match := ALGORITHM.search(text):
        return connect_errors.unreachable(hops[0], paramiko.ssh_exception.IncompatiblePeer(match[0]), timeout_s)
    for pattern, error in NETWORK.items():
        if re.search(pattern, text):
            return connect_errors.unreachable(_failed_hop(hops, text), error, timeout_s)
    if any("SSH2_MSG_NEWKEYS received" in line for line in lines):
        return _login_error(hops, lines, messages, askpass)
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


def _login_error(
    hops: Sequence[Target], lines: Sequence[str], messages: Sequence[str], askpass: AskPass
) -> AuthenticationFailed:
    """Return the error for a login that failed; SecretNeeded or SecretRefused if a secret could help."""
    denied = next((match for line in messages if (match := DENIED.search(line))), None)
    hop = _login(hops, denied[1], denied[2]) if denied and denied[1] else askpass.hop
    tried = [match[1] for line in lines if (match := OFFERED.match(line))]
    parts = [_reason(hop, lines, denied[3] if denied else "")]
    parts.append(f"tried: {', '.join(dict.fromkeys(tried)) or 'no key'}")
    if agent := next((match for line in lines if (match := AGENT.match(line))), None):
        path = hop.identity_agent or os.environ.get("SSH_AUTH_SOCK", "")
        parts.append(f"the ssh agent at {path} does not answer ({agent[1]})")
    other = [line for line in messages if not any(one.search(line) for one in (DENIED, CLOSED, PARTIAL))]
    if other:
        parts.append(f"it said: {'; '.join(other)[-MESSAGE_MAX:]}")
    if hop.is_batch:
        parts.append("nobody is asked (BatchMode)")
    missing, wrong = askpass.missing, askpass.used[-1] if askpass.used else None
    if missing:
        parts.append(f"a {missing.kind} is needed, and none was given")
        return SecretNeeded(_problem(hop, parts), hint=_hint(hop, missing), secret=missing.to_dict())
    if wrong:
        refused = f"the {wrong.kind} was refused (tried once)"
        parts.append(f"not usable: {wrong.of} (wrong passphrase)" if wrong.kind == PASSPHRASE else refused)
        return SecretRefused(_problem(hop, parts), hint=_hint(hop, wrong), secret=wrong.to_dict())
    hint = _hint(hop, None) if denied else hop.ssh_line("ssh -v", "true")
    return AuthenticationFailed(_problem(hop, parts), hint=hint)


def _reason(hop: Target, lines: Sequence[str], offered: str) -> str:
    methods = ", ".join(offered.split(","))
    if any(TOO_MANY.search(line) for line in lines):
        return "sshd there ended the login: too many keys (MaxAuthTries)"
    if any(PARTIAL.search(line) for line in lines):
        return f"sshd there wants more than a key ({methods})"
    if any(ENDED.search(line) for line in lines):
        return f"sshd there ended the login of {hop.user}"
    return f"sshd refused {hop.user}" + (f" (it offers {methods})" if methods else "")


def _problem(hop: Target, parts: Sequence[str]) -> str:
    return f"node {hop}: {'; '.join(parts)}"


def _hint(hop: Target, secret: SecretRequest | None) -> str:
    if secret and secret.kind == PASSPHRASE:
        return f"ssh-add {shlex.quote(secret.of)}"
    return hop.ssh_line("ssh-copy-id")


def _login(hops: Sequence[Target], user: str, host: str) -> Target:
    return next((hop for hop in hops if (hop.user, hop.host) == (user, host)), hops[0])


def _failed_hop(hops: Sequence[Target], text: str) -> Target:
    """Return the hop that ssh's message names; a gateway comes before the node behind it."""
    return next((hop for hop in reversed(hops) if hop.host in text), hops[0])
