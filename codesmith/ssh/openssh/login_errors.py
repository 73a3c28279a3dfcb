"""Turn the log of an ssh that could not log in into an error, the same error as the first carrier raises."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.secrets import ANSWER, PASSPHRASE, SecretRequest
from codesmith.ssh.endings import EXPIRED, explain_ending, refusal_hint
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.passwords import TOO_MANY
from codesmith.ssh.target import Target
from codesmith.ssh.transport import printable

DENIED = re.compile(r"(?:(\S+)@(\S+): )?Permission denied \(([^)]*)\)")
PARTIAL = re.compile(r"with partial success")
OFFERED = re.compile(r"debug1: Offering public key: (.*?)(?: [A-Z0-9-]+ SHA256:\S+)?(?: explicit| agent| token)*$")
AGENT = re.compile(r"debug1: .*ssh_get_authentication_socket: (.*)")
# sshd or the network ended the connection. sshd's reason, if it gave one, comes before it.
ENDED = re.compile(r"^Connection (?:closed|reset) by")
REASON = re.compile(r"^Received disconnect from .*?:\d+: ")
OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def login_error(
    hops: Sequence[Target], lines: Sequence[str], messages: Sequence[str], askpass: AskPass
) -> AuthenticationFailed:
    """Return the error for a login that failed; SecretNeeded or SecretRefused if a secret could help.

    `lines` is all that ssh wrote, `messages` are those of its lines that are meant for a person.
    """
    found = next((match for line in messages if (match := DENIED.search(line))), None)
    hop = _hop(hops, found[1], found[2]) if found and found[1] else askpass.hop
    tried = list(dict.fromkeys(match[1] for line in lines if (match := OFFERED.match(line))))
    agent, no_answer = _silent_agent(hop, lines)
    other = (DENIED, ENDED, PARTIAL)
    message = printable("; ".join(_readable(line) for line in messages if not any(one.search(line) for one in other)))

    if any(TOO_MANY in line for line in lines) or (not found and any(ENDED.search(line) for line in lines)):
        reason, hint = explain_ending(hop, message, len(tried))
        return AuthenticationFailed(_problem(hop, reason, tried), hint=hint)
    if askpass.is_expired:
        return AuthenticationFailed(_problem(hop, EXPIRED, tried), hint=hop.ssh_line("ssh -t"))

    notes = [f"it said: {message}"] if message else []
    if agent:
        notes.append(f"the ssh agent at {agent} does not answer ({no_answer})")
    if hop.is_batch:
        notes.append("nobody is asked (BatchMode)")
    reason, hint = _refusal(hop, lines, found[3] if found else ""), refusal_hint(hop)
    if missing := askpass.missing:
        if missing.kind == PASSPHRASE:
            hint = f"ssh-add {shlex.quote(missing.of)}"
        elif agent and not tried:
            hint = f"SSH_AUTH_SOCK={shlex.quote(agent)} ssh-add -l"
        problem = _problem(hop, reason, tried, [*notes, _needed(missing)])
        return SecretNeeded(problem, hint=hint, secret=missing.to_dict())
    if askpass.used:
        wrong = askpass.used[-1]
        if wrong.kind == PASSPHRASE:
            hint, note = f"ssh-add {shlex.quote(wrong.of)}", f"not usable: {wrong.of} (wrong passphrase)"
        else:
            note = f"the {wrong.kind} was refused (tried once)"
        return SecretRefused(_problem(hop, reason, tried, [*notes, note]), hint=hint, secret=wrong.to_dict())
    if askpass.unanswered:
        notes.append(_needed(askpass.unanswered))
    elif not found:
        hint = hop.ssh_line("ssh -v", "true")
    return AuthenticationFailed(_problem(hop, reason, tried, notes), hint=hint)


def _problem(hop: Target, reason: str, tried: Sequence[str], notes: Sequence[str] = ()) -> str:
    keys = f"tried: {', '.join(tried) or 'no key'}"
    return f"node {hop}: {'; '.join([reason, keys, *notes])}"


def _refusal(hop: Target, lines: Sequence[str], offered: str) -> str:
    methods = ", ".join(offered.split(","))
    if any(PARTIAL.search(line) for line in lines):
        return f"sshd there wants more than a key ({methods})"
    return f"sshd refused {hop.user}" + (f" (it offers {methods})" if methods else "")


def _needed(secret: SecretRequest) -> str:
    return f"{'an' if secret.kind == ANSWER else 'a'} {secret.kind} is needed, and none was given"


def _silent_agent(hop: Target, lines: Sequence[str]) -> tuple[str, str]:
    """Return the socket of the ssh agent that did not answer ssh, and the reason; "" and "" if there is none."""
    why = next((match[1] for line in lines if (match := AGENT.match(line))), "")
    return (hop.identity_agent or os.environ.get("SSH_AUTH_SOCK", "") if why else ""), why


def _readable(line: str) -> str:
    """Return a line of ssh as sshd sent it: without ssh's prefix, and its octal escapes as the bytes they mean."""
    data = OCTAL.sub(lambda found: bytes([int(found[1], 8)]), REASON.sub("", line).encode())
    return data.decode(errors="replace")


def _hop(hops: Sequence[Target], user: str, host: str) -> Target:
    return next((hop for hop in hops if (hop.user, hop.host) == (user, host)), hops[0])
