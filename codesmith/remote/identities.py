"""Who we are to sshd: key files and agent keys, tried in the operator's order, and named when all are refused."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from codesmith.errors import AuthenticationFailed
from codesmith.remote.target import Target

# What loading a private key raises: no such file, not a key, a passphrase is needed, a type we cannot use.
UNUSABLE = (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)


class SocketAgent(paramiko.agent.AgentSSH):
    """The keys of an ssh agent at a path; none when nobody answers there."""

    def __init__(self, path: str, timeout_s: float = 5.0) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        with contextlib.suppress(OSError, paramiko.SSHException):
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Let go of the agent; its keys cannot sign any more."""
        self._socket.close()


class NodeAuth:
    """An auth strategy for paramiko: tries each identity once.

    Fails with the list of what was tried and why the rest was not.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._agent: SocketAgent | None = None
        self._tried: list[str] = []
        self._unusable: list[str] = []
        self._encrypted: list[str] = []

    def authenticate(self, transport: paramiko.Transport) -> Any:
        """Return when sshd accepts one of the keys; AuthenticationFailed when it accepts none."""
        try:
            for label, key in self._keys():
                if self._is_accepted(transport, label, key):
                    return []
        finally:
            if self._agent:
                self._agent.close()
        raise self._failure()

    def _is_accepted(self, transport: paramiko.Transport, label: str, key: paramiko.PKey) -> bool:
        try:
            further = transport.auth_publickey(self._target.user, key)
        except paramiko.BadAuthenticationType as error:
            raise self._failure(f"sshd there takes no keys (only {', '.join(error.allowed_types)})") from error
        except paramiko.AuthenticationException:
            self._tried.append(label)
            return False
        if further:
            raise self._failure(f"sshd there wants more than a key ({', '.join(further)}), which is not supported")
        return True

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
            if found is None:
                (self._encrypted if needs_passphrase else self._unusable).append(path)
            return found

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

    def _failure(self, reason: str = "") -> AuthenticationFailed:
        target = self._target
        parts = [reason or f"sshd refused {target.user}", f"tried: {', '.join(self._tried) or 'no key'}"]
        if self._encrypted:
            parts.append(f"not tried, a passphrase is needed: {', '.join(self._encrypted)}")
        if self._unusable:
            parts.append(f"not usable: {', '.join(self._unusable)}")
        hint = f"ssh-copy-id -p {target.port} {shlex.quote(f'{target.user}@{target.host}')}"
        if self._encrypted:
            hint = f"ssh-add {shlex.quote(self._encrypted[0])}"
        return AuthenticationFailed(f"node {target}: " + "; ".join(parts), hint=hint)


def _public_blob(path: str) -> bytes | None:
    try:
        fields = Path(f"{path}.pub").read_text(encoding="utf-8", errors="replace").split()
        return base64.b64decode(fields[1], validate=True)
    except (OSError, IndexError, ValueError, binascii.Error):
        return None
