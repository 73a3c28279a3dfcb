"""Log in to sshd: try the keys in the operator's order, then a password; an error lists what was tried.

Asks nobody. SecretNeeded names the secret that only a person knows; the caller asks for it and logs in again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import paramiko

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.secrets import SecretRequest
from codesmith.ssh.connect_errors import SSHD_LOG_HINT
from codesmith.ssh.keys import Keys
from codesmith.ssh.passwords import TOO_MANY, PasswordLogin, methods_offered, raise_if_late
from codesmith.ssh.target import Target
from codesmith.ssh.transport import NodeTransport

POSSIBLE_CAUSES = "its account, or a rule of PAM, may forbid it: an expired account, /etc/nologin, pam_access"
EXPIRED = "the password has expired, and sshd wants a new one"
NO_SIGNATURE = "key cannot be used for signing"
OPENSSH_METHODS = {"gssapi-with-mic", "hostbased"}


def is_about_signing(error: Exception) -> bool:
    """Return whether the cause is an ssh agent that did not sign, and not sshd."""
    return NO_SIGNATURE in str(error) or "ssh agent" in str(error)


class NodeAuth:
    """An auth strategy for paramiko: tries each identity once, then a password. `given` holds the secrets known so far.

    A failure lists what was tried, and why the rest was not tried.
    """

    def __init__(self, target: Target, given: Mapping[SecretRequest, str] | None = None) -> None:
        self._target, self._given = target, given or {}
        self._password = PasswordLogin(target, self._given)
        self._keys = Keys(target, self._given)
        self._tried: list[str] = []
        self._offered: Sequence[str] = ()
        self._reason = f"sshd refused {target.user}"

    def authenticate(self, transport: NodeTransport) -> Any:
        """Return once sshd accepts the login; SecretNeeded if a secret could help, else AuthenticationFailed."""
        try:
            offered = self._try_keys(transport)
        finally:
            self._keys.close()
        if offered is None or (not self._keys.missing_passphrase() and self._is_accepted(transport, offered)):
            return []
        raise self._failure()

    def _try_keys(self, transport: NodeTransport) -> Sequence[str] | None:
        """Return None if a key logs in, else the methods that sshd offers beside keys; () if they are not known yet."""
        for label, key in self._keys:
            further = self._try_key(transport, label, key)
            if further == []:
                return None
            self._offered = further or self._offered
            if further and "publickey" not in further:
                return further
        if self._keys.problem:
            raise self._failure(self._keys.problem, "correct `identity:` in nodes.yaml, or: ssh-add")
        return self._offered

    def _try_key(self, transport: NodeTransport, label: str, key: paramiko.PKey) -> Sequence[str] | None:
        """Return the methods that sshd wants after this key, () if it logs in; None if the key is refused."""
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
                # Nobody confirmed or touched the key. paramiko then ends the connection.
                self._keys.needs_openssh = label
                raise self._failure(f"no signature of {label}: {error}", self._keys.list_agent_command) from error
            if not transport.server_messages:
                raise
            self._tried.append(label)
            raise self._ended(transport) from error
        if further:
            self._tried.append(f"{label} (accepted)")
            self._reason = f"sshd there wants more than a key ({', '.join(further)})"
        return further

    def _is_accepted(self, transport: NodeTransport, offered: Sequence[str]) -> bool:
        """Try a password if sshd and the ssh configuration allow one."""
        if not self._target.passwords:
            return False
        try:
            offered = offered or methods_offered(transport, self._target.user)
        except EOFError:
            if self._tried or transport.server_messages:
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
        """Return the error for a login that sshd ended, with sshd's message if there is one."""
        message, target = transport.server_messages, self._target
        quote = f"; it said: {message}" if message else ""
        if TOO_MANY in message:
            host = target.alias or target.host
            fewer = f"in ~/.ssh/config, for Host {host}: IdentitiesOnly yes, and IdentityFile with the right key"
            hint = fewer if len(self._tried) > 1 else target.ssh_line("ssh-copy-id")
            return self._failure(f"sshd there ended the login after too many attempts (MaxAuthTries){quote}", hint)
        reason = "sshd there ended the login" + (quote or f" without a reason ({POSSIBLE_CAUSES})")
        return self._failure(reason, SSHD_LOG_HINT)

    def _failure(self, reason: str = "", hint: str = "") -> AuthenticationFailed:
        """Return the error that lists what was tried and why the rest was not; a `hint` means that no secret helps."""
        missing = self._keys.missing_passphrase() or self._password.missing
        wrong = self._password.wrong or self._keys.wrong
        problem = f"node {self._target}: {self._summary(reason or self._reason)}"
        if hint or not (missing or wrong):
            failure = AuthenticationFailed(problem, hint=hint or self._hint())
        elif missing:
            failure = SecretNeeded(problem, hint=self._hint(), secret=missing.to_dict())
        else:
            assert wrong
            failure = SecretRefused(problem, hint=self._hint(), secret=wrong.to_dict())
        failure.openssh_may_help = bool(self._keys.needs_openssh or OPENSSH_METHODS & set(self._offered))
        return failure

    def _summary(self, reason: str) -> str:
        keys, password = self._keys, self._password
        parts = [reason, f"tried: {', '.join(self._tried) or 'no key'}"]
        if keys.encrypted:
            parts.append(f"not tried, a passphrase is needed: {', '.join(keys.encrypted)}")
        if keys.unusable:
            parts.append(f"not usable: {', '.join(keys.unusable)}")
        if self._target.pkcs11_provider:
            parts.append(f"keys of PKCS11Provider {self._target.pkcs11_provider} are not read here")
        if keys.agent and keys.agent.problem and keys.agent.problem not in reason:
            parts.append(keys.agent.problem)
        if password.missing:
            parts.append("sshd accepts a password, but none was given")
        if password.wrong:
            parts.append("the password was refused (tried once)")
        if self._target.is_batch:
            parts.append("nobody is asked (BatchMode)")
        return "; ".join(parts)

    def _hint(self) -> str:
        keys, target = self._keys, self._target
        if keys.encrypted:
            return f"ssh-add {shlex.quote(keys.encrypted[0])}"
        if keys.agent and keys.agent.problem and not self._tried:
            return keys.list_agent_command
        # sshd answers alike for a key that is not authorised and for a login that it lets nobody use.
        return f"{target.ssh_line('ssh-copy-id')}  # or sshd accepts no key for {target.user}: {SSHD_LOG_HINT}"
