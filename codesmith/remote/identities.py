"""Who we are to sshd: key files and agent keys in the operator's order, then a password; named when all are refused.

Nobody is asked here: what a person would have to say is a SecretNeeded, and the login is made again with it.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.remote.passwords import TOO_MANY, PasswordLogin, methods_offered, raise_if_late
from codesmith.remote.target import Target
from codesmith.remote.transport import AnyMessage, NodeTransport
from codesmith.secret import PASSPHRASE, Wanted

AGENT_LISTS_S = 5.0
AGENT_SIGNS_S = 8.0  # somebody may have to touch a key, or to confirm
# What loading a private key raises: no such file, not a key, a passphrase is needed, a type we cannot use.
UNUSABLE = (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)


SILENT = "its account, or a rule of PAM, may forbid it: an expired account, /etc/nologin, pam_access"
LOG = "on the node, as root: journalctl -u ssh -u sshd -n 20"
EXPIRED = "the password has expired, and sshd wants a new one"
NO_SIGNATURE = "key cannot be used for signing"


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

    def close(self) -> None:
        """Let go of the agent; its keys cannot sign any more."""
        self._socket.close()


class NodeAuth:
    """An auth strategy for paramiko: tries each identity once, then a password. `given` are secrets known already.

    Fails with the list of what was tried and why the rest was not.
    """

    def __init__(self, target: Target, given: Mapping[Wanted, str] | None = None) -> None:
        self._target, self._given = target, given or {}
        self._password = PasswordLogin(target, self._given)
        self._agent: SocketAgent | None = None
        self._tried: list[str] = []
        self._unusable: list[str] = []
        self._encrypted: list[str] = []
        self._wrong: Wanted | None = None
        self._reason = f"sshd refused {target.user}"

    def authenticate(self, transport: NodeTransport) -> Any:
        """Return when sshd accepts us; SecretNeeded when a secret could help, else AuthenticationFailed."""
        try:
            offered = self._try_keys(transport)
        finally:
            if self._agent:
                self._agent.close()
        if offered is None or (not self._missing_passphrase() and self._is_accepted(transport, offered)):
            return []
        raise self._failure()

    def _try_keys(self, transport: NodeTransport) -> Sequence[str] | None:
        """Return None when a key opens; else what sshd offers beside keys, () if that is not known yet."""
        for label, key in self._keys():
            try:
                further = transport.auth_publickey(self._target.user, key)
            except paramiko.BadAuthenticationType as error:
                self._reason = f"sshd there takes no keys (only {', '.join(error.allowed_types)})"
                return error.allowed_types
            except paramiko.AuthenticationException as error:
                raise_if_late(error)
                self._tried.append(label)
                if not transport.is_active():
                    raise self._ended(transport) from None
                continue
            except (paramiko.SSHException, EOFError, OSError) as error:
                if isinstance(key, paramiko.AgentKey) and is_about_signing(error):
                    # Nobody confirmed, or touched the key; paramiko ends the connection for it.
                    raise self._failure(f"no signature of {label}: {error}", self._look_at_agent()) from error
                if not transport.last_words:
                    raise
                self._tried.append(label)
                raise self._ended(transport) from error
            if not further:
                return None
            self._tried.append(f"{label} (accepted)")
            self._reason = f"sshd there wants more than a key ({', '.join(further)})"
            return further
        return ()

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
        if offered and not set(offered) & set(self._target.passwords):
            self._reason += f" (it offers {', '.join(offered)})"
        accepted = transport.is_authenticated() or self._password.is_accepted(transport, offered)
        if self._password.is_cut_off:
            raise self._ended(transport)
        if self._password.is_expired:
            raise self._failure(EXPIRED, self._target.ssh_line("ssh -t"))
        return accepted

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        offered = set()
        for path in self._target.identities:
            found = self._load(path)
            if found:
                offered.add(found[1].asbytes())
                yield found
        if not self._target.identities_only:
            for key in self._agent_keys():
                if key.asbytes() not in offered:
                    yield f"agent: {key.comment or key.get_name()}", key

    def _load(self, path: str) -> tuple[str, paramiko.PKey] | None:
        try:
            return path, paramiko.PKey.from_path(path)
        except FileNotFoundError:
            return self._from_agent(path)
        except UNUSABLE as error:
            needs_passphrase = isinstance(error, (TypeError, paramiko.PasswordRequiredException))
            found = self._from_agent(path)
            if found is None and needs_passphrase:
                return self._decrypt(path)
            if found is None:
                self._unusable.append(path)
            return found

    def _decrypt(self, path: str) -> tuple[str, paramiko.PKey] | None:
        wanted = _wanted_passphrase(path)
        passphrase = self._given.get(wanted)
        if not passphrase:
            self._encrypted.append(path)
            return None
        try:
            return path, paramiko.PKey.from_path(path, passphrase.encode(errors="surrogateescape"))  # type: ignore[arg-type]
        except UNUSABLE:
            self._wrong = self._wrong or wanted
            self._unusable.append(f"{path} (wrong passphrase)")
            return None

    def _from_agent(self, path: str) -> tuple[str, paramiko.PKey] | None:
        blob = _public_blob(path)
        for key in self._agent_keys() if blob else ():
            if key.asbytes() == blob:
                return f"{path} (agent)", key
        return None

    def _agent_keys(self) -> tuple[Any, ...]:
        path = self._target.identity_agent or os.environ.get("SSH_AUTH_SOCK")
        if not path or path == "none":
            return ()
        if self._agent is None:
            self._agent = SocketAgent(path)
        return tuple(self._agent.get_keys())

    def _missing_passphrase(self) -> Wanted | None:
        """Return the passphrase to ask for next."""
        wanted = (_wanted_passphrase(path) for path in self._encrypted)
        return next((one for one in wanted if one not in self._given and not self._target.is_batch), None)

    def _ended(self, transport: NodeTransport) -> AuthenticationFailed:
        """Return the error for a login that sshd ended, in its own words if it has any."""
        words, target = transport.last_words, self._target
        said = f"; it said: {words}" if words else ""
        if TOO_MANY in words:
            host = target.alias or target.host
            fewer = f"in ~/.ssh/config, for Host {host}: IdentitiesOnly yes, and IdentityFile with the right key"
            hint = fewer if len(self._tried) > 1 else target.ssh_line("ssh-copy-id")
            return self._failure(f"sshd there ended the login after too many attempts (MaxAuthTries){said}", hint)
        reason = "sshd there ended the login" + (said or f" without a word ({SILENT})")
        return self._failure(reason, LOG)

    def _look_at_agent(self) -> str:
        return f"SSH_AUTH_SOCK={shlex.quote(self._agent.path)} ssh-add -l" if self._agent else ""

    def _failure(self, reason: str = "", hint: str = "") -> AuthenticationFailed:
        """Return what was tried and why the rest was not; with a `hint` no secret could help."""
        target, password = self._target, self._password
        parts = [reason or self._reason, f"tried: {', '.join(self._tried) or 'no key'}"]
        missing = self._missing_passphrase() or password.missing
        if self._encrypted:
            parts.append(f"not tried, a passphrase is needed: {', '.join(self._encrypted)}")
        if self._unusable:
            parts.append(f"not usable: {', '.join(self._unusable)}")
        if self._agent and self._agent.problem and self._agent.problem not in parts[0]:
            parts.append(self._agent.problem)
        if password.missing:
            parts.append("a password would be taken, and none was given")
        if password.wrong:
            parts.append("the password was refused (tried once)")
        if target.is_batch:
            parts.append("nobody is asked (BatchMode)")
        problem = f"node {target}: " + "; ".join(parts)
        if hint:
            return AuthenticationFailed(problem, hint=hint)
        # sshd has one answer for a key that is not authorised and for a login that it lets nobody use.
        hint = f"{target.ssh_line('ssh-copy-id')}  # or it lets {target.user} in by no key: {LOG}"
        if self._encrypted:
            hint = f"ssh-add {shlex.quote(self._encrypted[0])}"
        elif self._agent and self._agent.problem and not self._tried:
            hint = self._look_at_agent()
        wrong = password.wrong or self._wrong
        if missing:
            return SecretNeeded(problem, hint=hint, secret=missing.to_dict())
        if wrong:
            return SecretRefused(problem, hint=hint, secret=wrong.to_dict())
        return AuthenticationFailed(problem, hint=hint)


def _wanted_passphrase(path: str) -> Wanted:
    return Wanted(PASSPHRASE, path, f"passphrase of the key {path}: ")


def _public_blob(path: str) -> bytes | None:
    try:
        fields = Path(f"{path}.pub").read_text(encoding="utf-8", errors="replace").split()
        return base64.b64decode(fields[1], validate=True)
    except (OSError, IndexError, ValueError, binascii.Error):
        return None
