"""Why ssh did not get there, from what it said: the same errors as the first carrier's."""

from __future__ import annotations

import errno
import os
import re
import shlex
import socket
from collections.abc import Sequence

import paramiko

from codesmith.errors import AuthenticationFailed, CodeSmithError, SecretNeeded, SecretRefused
from codesmith.secrets import ANSWER, PASSPHRASE, SecretRequest
from codesmith.ssh import connect_errors
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.target import Target

SAID_MAX = 300
# RFC 4254, 5.1.
CONNECT_FAILED = 2
HOST_KEY = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY DETECTED")
DENIED = re.compile(r"(?:(\S+)@(\S+): )?Permission denied \(([^)]*)\)")
PARTIAL = re.compile(r"with partial success")
TOO_MANY = re.compile(r"Too many authentication failures")
OFFERED = re.compile(r"debug1: Offering public key: (.*?)(?: [A-Z0-9-]+ SHA256:\S+)?(?: explicit| agent| token)*$")
AGENT = re.compile(r"debug1: \w+: ssh_get_authentication_socket: (.*)")
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
ENDED = re.compile(r"^Connection closed by")
NOISE = re.compile(r"debug\d: |OpenSSH_|Authenticated to |Warning: Permanently added|\s*$|Disconnected from")


def is_host_key(lines: Sequence[str]) -> bool:
    """Return whether ssh refused a host key."""
    return any(HOST_KEY.search(line) for line in lines)


def explain(places: Sequence[Target], lines: Sequence[str], askpass: AskPass, timeout_s: float) -> CodeSmithError:
    """Return the error for an ssh that ended before it was logged in."""
    said = spoken(lines)
    if askpass.missing or askpass.used or any(DENIED.search(line) or TOO_MANY.search(line) for line in said):
        return _refused(places, lines, said, askpass)
    text = "\n".join(said)
    if len(places) > 1 and (found := CHANNEL.search(text)):
        return _stuck(places, found)
    if found := ALGORITHM.search(text):
        return connect_errors.unreachable(places[0], paramiko.ssh_exception.IncompatiblePeer(found[0]), timeout_s)
    for pattern, error in NETWORK.items():
        if re.search(pattern, text):
            return connect_errors.unreachable(_blamed(places, text), error, timeout_s)
    if any("SSH2_MSG_NEWKEYS received" in line for line in lines):
        return _refused(places, lines, said, askpass)
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


def _refused(
    places: Sequence[Target], lines: Sequence[str], said: Sequence[str], askpass: AskPass
) -> AuthenticationFailed:
    """Return why nobody was let in; about a secret where that could help."""
    found = next((match for line in said if (match := DENIED.search(line))), None)
    place = _login(places, found[1], found[2]) if found and found[1] else askpass.place
    tried = [match[1] for line in lines if (match := OFFERED.match(line))]
    parts = [_reason(place, lines, found[3] if found else "")]
    parts.append(f"tried: {', '.join(dict.fromkeys(tried)) or 'no key'}")
    told = [line for line in said if not any(one.search(line) for one in (DENIED, CLOSED, PARTIAL))]
    if told:
        parts.append(f"it said: {'; '.join(told)[-SAID_MAX:]}")
    silence = next((match[1] for line in lines if (match := AGENT.match(line))), "")
    agent = (place.identity_agent or os.environ.get("SSH_AUTH_SOCK", "")) if silence else ""
    if agent:
        parts.append(f"the ssh agent at {agent} does not answer ({silence})")
    if place.is_batch:
        parts.append("nobody is asked (BatchMode)")
    missing, wrong = askpass.missing, askpass.used[-1] if askpass.used else None
    if missing:
        parts.append(_needed(missing))
        hint = f"SSH_AUTH_SOCK={shlex.quote(agent)} ssh-add -l" if agent and not tried else _hint(place, missing)
        return SecretNeeded(_told(place, parts), hint=hint, secret=missing.to_dict())
    if wrong:
        refused = f"the {wrong.kind} was refused (tried once)"
        parts.append(f"not usable: {wrong.of} (wrong passphrase)" if wrong.kind == PASSPHRASE else refused)
        return SecretRefused(_told(place, parts), hint=_hint(place, wrong), secret=wrong.to_dict())
    if askpass.unanswered:
        parts.append(_needed(askpass.unanswered))
    hint = _hint(place, None) if found or askpass.unanswered else place.ssh_line("ssh -v", "true")
    return AuthenticationFailed(_told(place, parts), hint=hint)


def _reason(place: Target, lines: Sequence[str], offered: str) -> str:
    methods = ", ".join(offered.split(","))
    if any(TOO_MANY.search(line) for line in lines):
        return "sshd there ended the login: too many keys (MaxAuthTries)"
    if any(PARTIAL.search(line) for line in lines):
        return f"sshd there wants more than a key ({methods})"
    if any(ENDED.search(line) for line in lines):
        return f"sshd there ended the login of {place.user}"
    return f"sshd refused {place.user}" + (f" (it offers {methods})" if methods else "")


def _needed(secret: SecretRequest) -> str:
    return f"{'an' if secret.kind == ANSWER else 'a'} {secret.kind} is needed, and none was given"


def _told(place: Target, parts: Sequence[str]) -> str:
    return f"node {place}: {'; '.join(parts)}"


def _hint(place: Target, secret: SecretRequest | None) -> str:
    if secret and secret.kind == PASSPHRASE:
        return f"ssh-add {shlex.quote(secret.of)}"
    return place.ssh_line("ssh-copy-id")


def _login(places: Sequence[Target], user: str, host: str) -> Target:
    return next((place for place in places if (place.user, place.host) == (user, host)), places[0])


def _blamed(places: Sequence[Target], text: str) -> Target:
    """Return the place that is named, a gateway before the node behind it."""
    return next((place for place in reversed(places) if place.host in text), places[0])
