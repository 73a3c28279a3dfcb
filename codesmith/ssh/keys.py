"""Which keys the operator shows, in the order of `ssh`: files with their certificates, then the ssh agent's."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from codesmith.secrets import PASSPHRASE, SecretRequest
from codesmith.ssh.keyfiles import (
    BEYOND_US,
    UNUSABLE,
    Certificate,
    Certified,
    read_certificate,
    read_private,
    read_public,
)

if TYPE_CHECKING:
    from codesmith.ssh.identities import SocketAgent
    from codesmith.ssh.target import Target

Shown = tuple[str, paramiko.PKey]


class Keys:
    """The keys to try for one login, each with a label; and what could not be tried."""

    def __init__(self, target: Target, given: Mapping[SecretRequest, str], ask: Callable[[str], SocketAgent]) -> None:
        self._target, self._given, self._ask = target, given, ask
        self.agent: SocketAgent | None = None
        self.unusable: list[str] = []
        self.encrypted: list[str] = []
        self.wrong: SecretRequest | None = None
        # The identity that nodes.yaml names cannot be used: nothing else is tried.
        self.problem = ""
        # What is left out here, and OpenSSH may know how to use.
        self.beyond_us = f"PKCS11Provider {target.pkcs11_provider}" if target.pkcs11_provider else ""

    def __iter__(self) -> Iterator[Shown]:
        """Yield what to show sshd, each once: a certificate goes before the plain key."""
        offered = set()
        for label, key in self._all():
            if key.asbytes() not in offered:
                offered.add(key.asbytes())
                yield label, key

    def close(self) -> None:
        """Let go of the ssh agent."""
        if self.agent:
            self.agent.close()

    @property
    def look_at_agent(self) -> str:
        """Return the command that shows what the ssh agent has."""
        return f"SSH_AUTH_SOCK={shlex.quote(self.agent.path)} ssh-add -l" if self.agent else ""

    def missing_passphrase(self) -> SecretRequest | None:
        """Return the passphrase to ask for next."""
        wanted = (_wanted_passphrase(path) for path in self.encrypted)
        return next((one for one in wanted if one not in self._given and not self._target.is_batch), None)

    def problem_for_openssh(self, path: str) -> str:
        """Return why OpenSSH would pass over an identity; nothing if it can use it, maybe after a passphrase."""
        found = self._load(path)
        is_read_from_file = path in self.encrypted or (found is not None and found[0] == path)
        if is_read_from_file and is_open_to_others(path):
            return f"{path} (others may read it: ssh refuses such a key)"
        return "" if found or self.beyond_us == path else self.problem

    def _all(self) -> Iterator[Shown]:
        certificates = self._configured_certificates()
        for path in self._target.identities:
            found = self._load(path)
            if found:
                beside = read_certificate(f"{path}-cert.pub")
                yield from self._with_certificates(
                    found, certificates + ([(f"{path}-cert.pub", beside)] if beside else [])
                )
            elif self.problem:
                return
        if not self._target.identities_only:
            for key in self._agent_keys():
                yield from self._with_certificates((f"agent: {key.comment or key.get_name()}", key), certificates)

    def _with_certificates(self, found: Shown, certificates: list[tuple[str, Certificate]]) -> Iterator[Shown]:
        label, key = found
        for path, certificate in certificates:
            if certificate.public == key.asbytes():
                why_not = certificate.why_not(self._target.user, time.time())
                note = f" ({why_not})" if why_not else ""
                yield f"{label} with {Path(path).name}{note}", Certified(key, certificate)
        yield found

    def _configured_certificates(self) -> list[tuple[str, Certificate]]:
        found = [(path, read_certificate(path)) for path in self._target.certificates]
        self.unusable += [f"{path} (no certificate)" for path, certificate in found if certificate is None]
        return [(path, certificate) for path, certificate in found if certificate]

    def _load(self, path: str) -> Shown | None:
        """Return a key, from its file or the ssh agent; None where it cannot be used, which is noted."""
        try:
            return path, read_private(path)
        except UNUSABLE as error:
            found = self._from_agent(path)
            if found:
                return found
            if isinstance(error, (TypeError, paramiko.PasswordRequiredException)):
                return self._decrypt(path)
            self._note(path, error)
            return None

    def _note(self, path: str, error: Exception) -> None:
        reason = ""
        if isinstance(error, BEYOND_US):
            reason, self.beyond_us = "a kind of key that only OpenSSH uses", path
        elif read_public(path):
            reason = "only the public key; no ssh agent here has the private one"
        elif not isinstance(error, FileNotFoundError):
            reason = "no private key" if isinstance(error, ValueError) else str(error)
        if reason:  # the usual names need not be there
            self.unusable.append(f"{path} ({reason})")
        if path == self._target.named_identity:
            self.problem = f"the identity of nodes.yaml cannot be used: {path} ({reason or 'no such file'})"

    def _decrypt(self, path: str) -> Shown | None:
        wanted = _wanted_passphrase(path)
        passphrase = self._given.get(wanted)
        if not passphrase:
            self.encrypted.append(path)
            return None
        try:
            return path, read_private(path, passphrase.encode(errors="surrogateescape"))
        except UNUSABLE:
            self.wrong = self.wrong or wanted
            self.unusable.append(f"{path} (wrong passphrase)")
            return None

    def _from_agent(self, path: str) -> Shown | None:
        blob = read_public(path)
        for key in self._agent_keys() if blob else ():
            if key.asbytes() == blob:
                return f"{path} (agent)", key
        return None

    def _agent_keys(self) -> tuple[paramiko.AgentKey, ...]:
        path = self._target.identity_agent or os.environ.get("SSH_AUTH_SOCK")
        if not path or path == "none":
            return ()
        if self.agent is None:
            self.agent = self._ask(path)
        return tuple(self.agent.whole_keys())


def is_open_to_others(path: str) -> bool:
    """Return whether ssh would call a private key unprotected."""
    found = Path(path).stat()
    return found.st_uid == os.getuid() and bool(found.st_mode & 0o077)


def _wanted_passphrase(path: str) -> SecretRequest:
    return SecretRequest(PASSPHRASE, path, f"passphrase of the key {path}: ")
