"""The keys of an ssh agent, by the path of its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import paramiko

from codesmith.ssh.keyfiles import AgentCertificate, Certificate
from codesmith.ssh.transport import AnyMessage

LIST_WITHIN_S = 5.0
SIGN_WITHIN_S = 8.0  # a person may have to touch a security key, or to confirm


class SshAgent(paramiko.agent.AgentSSH):
    """The keys of the ssh agent at `path`. If it does not answer it has none, and `problem` says why."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.problem = path, ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(LIST_WITHIN_S)
        try:
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]
        except (OSError, paramiko.SSHException) as error:
            self.problem = self.problem or self._no_answer(error)
        self._socket.settimeout(SIGN_WITHIN_S)

    def _send_message(self, msg: Any) -> Any:
        # Signing happens in paramiko's own thread, which an OSError would end with a printed traceback.
        try:
            kind, answer = super()._send_message(msg)  # type: ignore[misc]
        except OSError as error:
            self.problem = self._no_answer(error)
            raise paramiko.SSHException(self.problem) from error
        answer.__class__ = AnyMessage  # a key's comment need not be UTF-8
        return kind, answer

    def _no_answer(self, error: Exception) -> str:
        return f"the ssh agent at {self.path} does not answer ({getattr(error, 'strerror', None) or error})"

    def keys_with_certificates(self) -> Iterator[paramiko.AgentKey]:
        """Yield its keys; a certificate is an AgentCertificate, not the plain key in it."""
        for key in self.get_keys():
            certificate = Certificate.of(key.blob)
            yield AgentCertificate(key, certificate) if certificate else key

    def close(self) -> None:
        """Close the connection to the agent; its keys cannot sign any more."""
        self._socket.close()
