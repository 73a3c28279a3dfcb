"""The keys to log in with, in the order of `ssh`: key files with their certificates, then the keys of the ssh agent."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from codesmith.secrets import PASSPHRASE, SecretRequest
from codesmith.ssh.keyfiles import (
    NEEDS_OPENSSH,
    UNUSABLE,
    Certificate,
    CertifiedKey,
    read_certificate,
    read_private,
    read_public,
)
from codesmith.ssh.ssh_agent import SshAgent

if TYPE_CHECKING:
    from codesmith.ssh.target import Target

LabelledKey = tuple[str, paramiko.PKey]


class Keys:
    """The keys to try for one login, each with a label, and the keys that cannot be tried."""

    def __init__(self, target: Target, given: Mapping[SecretRequest, str]) -> None:
        self._target, self._given = target, given
        self.agent: SshAgent | None = None
        self.unusable: list[str] = []
        self.encrypted: list[str] = []
        self.wrong: SecretRequest | None = None
        # Set if the identity that nodes.yaml names cannot be used: no other key is tried then.
        self.problem = ""
        # A key that cannot be used here, and that OpenSSH may be able to use.
        self.needs_openssh = f"PKCS11Provider {target.pkcs11_provider}" if target.pkcs11_provider else ""

    def __iter__(self) -> Iterator[LabelledKey]:
        """Yield each key once; a certificate comes before its plain key."""
        offered = set()
        for label, key in self._all():
            if key.asbytes() not in offered:
                offered.add(key.asbytes())
                yield label, key

    def close(self) -> None:
        """Close the connection to the ssh agent."""
        if self.agent:
            self.agent.close()

    @property
    def list_agent_command(self) -> str:
        """The command that lists the keys of the ssh agent."""
        return f"SSH_AUTH_SOCK={shlex.quote(self.agent.path)} ssh-add -l" if self.agent else ""

    def missing_passphrase(self) -> SecretRequest | None:
        """Return the passphrase to ask for next."""
        requests = (_passphrase_request(path) for path in self.encrypted)
        return next((one for one in requests if one not in self._given and not self._target.is_batch), None)

    def problem_for_openssh(self, path: str) -> str:
        """Return why OpenSSH would pass over an identity; nothing if it can use it, maybe after a passphrase."""
        loaded = self._load(path)
        is_read_from_file = path in self.encrypted or (loaded is not None and loaded[0] == path)
        if is_read_from_file and is_open_to_others(path):
            return f"{path} (others may read it: ssh refuses such a key)"
        return "" if loaded or self.needs_openssh == path else self.problem

    def _all(self) -> Iterator[LabelledKey]:
        certificates = self._configured_certificates()
        for path in self._target.identities:
            loaded = self._load(path)
            if loaded:
                beside = read_certificate(f"{path}-cert.pub")
                more = [(f"{path}-cert.pub", beside)] if beside else []
                yield from self._with_certificates(loaded, certificates + more)
            elif self.problem:
                return
        if not self._target.identities_only:
            for key in self._agent_keys():
                yield from self._with_certificates((f"agent: {key.comment or key.get_name()}", key), certificates)

    def _with_certificates(
        self, labelled: LabelledKey, certificates: list[tuple[str, Certificate]]
    ) -> Iterator[LabelledKey]:
        """Yield the key with each certificate that is made for it, then the key alone."""
        label, key = labelled
        for path, certificate in certificates:
            if certificate.public == key.asbytes():
                flaw = certificate.flaw(self._target.user, time.time())
                yield f"{label} with {Path(path).name}" + (f" ({flaw})" if flaw else ""), CertifiedKey(key, certificate)
        yield labelled

    def _configured_certificates(self) -> list[tuple[str, Certificate]]:
        loaded = [(path, read_certificate(path)) for path in self._target.certificates]
        self.unusable += [f"{path} (no certificate)" for path, certificate in loaded if certificate is None]
        return [(path, certificate) for path, certificate in loaded if certificate]

    def _load(self, path: str) -> LabelledKey | None:
        """Return the key from its file or the ssh agent; None, with the reason noted, if it cannot be used."""
        try:
            return path, read_private(path)
        except UNUSABLE as error:
            key = self._from_agent(path)
            if key:
                return key
            if isinstance(error, (TypeError, paramiko.PasswordRequiredException)):
                return self._decrypt(path)
            self._note_unusable(path, error)
            return None

    def _note_unusable(self, path: str, error: Exception) -> None:
        reason = ""
        if isinstance(error, NEEDS_OPENSSH):
            reason, self.needs_openssh = "only OpenSSH can use this kind of key", path
        elif read_public(path):
            reason = "only the public key; no ssh agent here has the private one"
        elif not isinstance(error, FileNotFoundError):
            reason = "no private key" if isinstance(error, ValueError) else str(error)
        if reason:  # the default key files need not exist
            self.unusable.append(f"{path} ({reason})")
        if path == self._target.named_identity:
            self.problem = f"the identity of nodes.yaml cannot be used: {path} ({reason or 'no such file'})"

    def _decrypt(self, path: str) -> LabelledKey | None:
        request = _passphrase_request(path)
        passphrase = self._given.get(request)
        if not passphrase:
            self.encrypted.append(path)
            return None
        try:
            return path, read_private(path, passphrase.encode(errors="surrogateescape"))
        except UNUSABLE:
            self.wrong = self.wrong or request
            self.unusable.append(f"{path} (wrong passphrase)")
            return None

    def _from_agent(self, path: str) -> LabelledKey | None:
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
            self.agent = SshAgent(path)
        return tuple(self.agent.keys_with_certificates())


def is_open_to_others(path: str) -> bool:
    """Return whether ssh would call a private key unprotected."""
    found = Path(path).stat()
    return found.st_uid == os.getuid() and bool(found.st_mode & 0o077)


def _passphrase_request(path: str) -> SecretRequest:
    return SecretRequest(PASSPHRASE, path, f"passphrase of the key {path}: ")
