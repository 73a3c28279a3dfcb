"""A stream through the agent's `dial`, used if sshd forbids stream-local forwarding.

The login shell runs the command, and its rc files may print and read lines. So a random line is sent first: /bin/sh
reads it, echoes it and becomes `dial`. Everything before the echo is noise. That costs no round trip.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

from codesmith.ssh.script import GAP, READ
from codesmith.tunnel.proof import AGENT_FILE, AGENT_SOCKET

# Every login shell reads it alike, like COMMAND of ssh/script.py.
COMMAND = f"/bin/sh -c '{READ}; echo $s; exec /usr/bin/python3 -I -S {AGENT_FILE} dial"
NOISE_MAX_BYTES = 1 << 20


def command(socket: str = AGENT_SOCKET) -> str:
    """Return the command that carries a socket of the agent."""
    return f"{COMMAND}'" if socket == AGENT_SOCKET else f"{COMMAND} {socket}'"


class DialStream:
    """A paramiko channel that runs COMMAND, without the output of the login shell."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._mark = secrets.token_hex(16).encode() + b"\n"
        self._noise, self._is_begun = b"", False
        with contextlib.suppress(OSError):  # if the shell ended at once, the first `recv` shows it
            channel.sendall(GAP + self._mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, nbytes: int) -> bytes:
        """Return some bytes from the agent, b"" at the end."""
        while not self._is_begun and len(self._noise) < NOISE_MAX_BYTES:
            data = self._channel.recv(nbytes)
            if not data:
                return b""
            self._noise, self._is_begun, rest = self._skip_noise(self._noise + data)
            if rest:
                return rest
        return bytes(self._channel.recv(nbytes)) if self._is_begun else b""

    def recv_ready(self) -> bool:
        """Return whether bytes of the agent wait; the shell's output is not looked at before the first `recv`."""
        return self._is_begun and bool(self._channel.recv_ready())

    def _skip_noise(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Return the noise so far, whether the mark has come, and the bytes after it."""
        _, mark, rest = data.partition(self._mark)
        return (b"", True, rest) if mark else (data, False, b"")
