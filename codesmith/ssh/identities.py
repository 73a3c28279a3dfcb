"""Who we are to sshd: keys in the operator's order, then a password; what was tried is named when all are refused.

Nobody is asked here: what a person would have to say is a SecretNeeded, and the login is made again with it.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import paramiko

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.secrets import SecretRequest
from codesmith.ssh.endings import EXPIRED, explain_ending, how_to_get_in
from codesmith.ssh.keyfiles import AgentCertificate, Certificate
from codesmith.ssh.keys import Keys
from codesmith.ssh.passwords import PasswordLogin, methods_offered, raise_if_late
from codesmith.ssh.target import Target, ensure_identity
from codesmith.ssh.transport import AnyMessage, NodeTransport

AGENT_LISTS_S = 5.0
AGENT_SIGNS_S = 8.0  # somebody may have to touch a key, or to confirm
NO_SIGNATURE = "key cannot be used for signing"
ONLY_OPENSSH = {"gssapi-with-mic", "hostbased"}


def is_about_signing(error: Exception) -> bool:
    """Return whether an ssh agent did not sign, rather than sshd end the connection."""
    return NO_SIGNATURE in str(error) or "ssh agent" in str(error)


class SocketAgent(paramiko.agent.AgentSSH):
    """The keys of an ssh agent at a path; none, and `problem`, when nobody answers there."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.problem = path, ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(AGENT_LISTS_S)
        try:
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]
        except (OSError, paramiko.SSHException) as error:
            self.problem = self.problem or self._no_answer(error)
        self._socket.settimeout(AGENT_SIGNS_S)

    def _send_message(self, msg: Any) -> Any:
        # Signing happens in paramiko's own thread, which dies of an OSError and prints it.
        try:
            kind, answer = super()._send_message(msg)  # type: ignore[misc]
        except OSError as error:
            self.problem = self._no_answer(error)
            raise paramiko.SSHException(self.problem) from error
        answer.__class__ = AnyMessage  # a key's comment need not be UTF-8
        return kind, answer

    def _no_answer(self, error: Exception) -> str:
        return f"the ssh agent at {self.path} does not answer ({getattr(error, 'strerror', None) or error})"

    def whole_keys(self) -> Iterator[paramiko.AgentKey]:
        """Yield its keys, certificates as what they are."""
        for key in self.get_keys():
            certificate = Certificate.of(key.blob)
            yield AgentCertificate(key, certificate) if certificate else key

    def close(self) -> None:
        """Let go of the agent; its keys cannot sign any more."""
        self._socket.close()


def ensure_usable_by_openssh(target: Target) -> None:
    """Raise AuthenticationFailed where `ssh` would pass over the identity of nodes.yaml, and show the next key."""
    ensure_identity(target)
    if not target.named_identity:
        return
    keys = Keys(target, {}, SocketAgent)
    try:
        problem = keys.problem_for_openssh(target.named_identity)
    finally:
        keys.close()
    if problem:
        hint = f"ls -l {shlex.quote(target.named_identity)}  # or correct `identity:` in nodes.yaml"
        raise AuthenticationFailed(f"node {target}: {problem}", hint=hint)


class NodeAuth:
    """An auth strategy for paramiko: tries each identity once, then a password. `given` are secrets known already.

    Fails with the list of what was tried and why the rest was not.
    """

    def __init__(self, target: Target, given: Mapping[SecretRequest, str] | None = None) -> None:
        self._target, self._given = target, given or {}
        self._password = PasswordLogin(target, self._given)
        self._keys = Keys(target, self._given, SocketAgent)
        self._tried: list[str] = []
        self._offered: Sequence[str] = ()
        self._reason = f"sshd refused {target.user}"

    def authenticate(self, transport: NodeTransport) -> Any:
        """Return when sshd accepts us; SecretNeeded when a secret could help, else AuthenticationFailed."""
        try:
            offered = self._try_keys(transport)
        finally:
            self._keys.close()
        if offered is None or (not self._keys.missing_passphrase() and self._is_accepted(transport, offered)):
            return []
        raise self._failure()

    def _try_keys(self, transport: NodeTransport) -> Sequence[str] | None:
        """Return None when a key opens; else what sshd offers beside keys, () if that is not known yet."""
        for label, key in self._keys:
            further = self._show(transport, label, key)
            if further == []:
                return None
            self._offered = further or self._offered
            if further and "publickey" not in further:
                return further
        if self._keys.problem:
            raise self._failure(self._keys.problem, "correct `identity:` in nodes.yaml, or: ssh-add")
        return self._offered

    def _show(self, transport: NodeTransport, label: str, key: paramiko.PKey) -> Sequence[str] | None:
        """Return what else sshd wants after this key, nothing if it opens; None if it is refused."""
        try:
            further: Sequence[str] = transport.auth_publickey(self._target.user, key)
        except paramiko.BadAuthenticationType as error:
            self._reason = f"sshd there takes no keys (only {', '.join(error.allowed_types)})"
            return error.allowed_types
        except paramiko.AuthenticationException as error:
            raise_if_late(error)
            self._tried.append(label)
            if not transport.is_active():
                raise self._ended(transport) from None
            return None
        except (paramiko.SSHException, EOFError, OSError) as error:
            if is_about_signing(error):
                # Nobody confirmed, or touched the key; paramiko ends the connection for it.
                self._keys.beyond_us = label
                raise self._failure(f"no signature of {label}: {error}", self._keys.look_at_agent) from error
            if not transport.last_words:
                raise
            self._tried.append(label)
            raise self._ended(transport) from error
        if further:
            self._tried.append(f"{label} (accepted)")
            self._reason = f"sshd there wants more than a key ({', '.join(further)})"
        return further

    def _is_accepted(self, transport: NodeTransport, offered: Sequence[str]) -> bool:
        """Try a password, where both sides take one."""
        if not self._target.passwords:
            return False
        try:
            offered = offered or methods_offered(transport, self._target.user)
        except EOFError:
            if self._tried or transport.last_words:
                raise self._ended(transport) from None
            raise
        self._offered = offered
        if offered and not set(offered) & set(self._target.passwords):
            self._reason += f" (it offers {', '.join(offered)})"
        accepted = transport.is_authenticated() or self._password.is_accepted(transport, offered)
        if self._password.is_cut_off:
            raise self._ended(transport)
        if self._password.is_expired:
            raise self._failure(EXPIRED, self._target.ssh_line("ssh -t"))
        return accepted

    def _ended(self, transport: NodeTransport) -> AuthenticationFailed:
        """Return the error for a login that sshd ended, in its own words if it has any."""
        return self._failure(*explain_ending(self._target, transport.last_words, len(self._tried)))

    def _failure(self, reason: str = "", hint: str = "") -> AuthenticationFailed:
        """Return what was tried and why the rest was not; with a `hint` no secret could help."""
        missing = self._keys.missing_passphrase() or self._password.missing
        wrong = self._password.wrong or self._keys.wrong
        problem, error = f"node {self._target}: {self._account(reason or self._reason)}", AuthenticationFailed
        if hint:
            failure = error(problem, hint=hint)
        elif missing:
            failure = SecretNeeded(problem, hint=self._next(), secret=missing.to_dict())
        elif wrong:
            failure = SecretRefused(problem, hint=self._next(), secret=wrong.to_dict())
        else:
            failure = error(problem, hint=self._next())
        failure.openssh_may_help = bool(self._keys.beyond_us or ONLY_OPENSSH & set(self._offered))
        return failure

    def _account(self, reason: str) -> str:
        ours, password = self._keys, self._password
        parts = [reason, f"tried: {', '.join(self._tried) or 'no key'}"]
        if ours.encrypted:
            parts.append(f"not tried, a passphrase is needed: {', '.join(ours.encrypted)}")
        if ours.unusable:
            parts.append(f"not usable: {', '.join(ours.unusable)}")
        if self._target.pkcs11_provider:
            parts.append(f"keys of PKCS11Provider {self._target.pkcs11_provider} are not read here")
        if ours.agent and ours.agent.problem and ours.agent.problem not in reason:
            parts.append(ours.agent.problem)
        if password.missing:
            parts.append("a password would be taken, and none was given")
        if password.wrong:
            parts.append("the password was refused (tried once)")
        if self._target.is_batch:
            parts.append("nobody is asked (BatchMode)")
        return "; ".join(parts)

    def _next(self) -> str:
        ours, target = self._keys, self._target
        if ours.encrypted:
            return f"ssh-add {shlex.quote(ours.encrypted[0])}"
        if ours.agent and ours.agent.problem and not self._tried:
            return ours.look_at_agent
        return how_to_get_in(target)
