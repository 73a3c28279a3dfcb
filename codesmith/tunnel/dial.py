"""A stream through the agent's `dial`, for where sshd forbids stream-local forwarding.

The command passes a login shell, whose rc files may print, and read a line or some. So a line of ours comes first:
/bin/sh takes it, says it again and becomes `dial`; what is heard before it is noise. That costs no round trip.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

from codesmith.ssh.script import GAP, READ
from codesmith.tunnel.proof import AGENT_FILE

# Read alike by every login shell, as is COMMAND of remote/script.py.
COMMAND = f"/bin/sh -c '{READ}; echo $s; exec /usr/bin/python3 -I -S {AGENT_FILE} dial'"
NOISE_MAX_BYTES = 1 << 20


class DialStream:
    """A paramiko channel that runs COMMAND; what the login shell says beside it is left out."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._mark = secrets.token_hex(16).encode() + b"\n"
        self._noise, self._is_begun = b"", False
        with contextlib.suppress(OSError):  # a shell that ended at once: the first `recv` shows it
            channel.sendall(GAP + self._mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, nbytes: int) -> bytes:
        """Return some bytes of the agent's, b"" at the end."""
        while not self._is_begun and len(self._noise) < NOISE_MAX_BYTES:
            data = self._channel.recv(nbytes)
            if not data:
                return b""
            self._noise, self._is_begun, rest = self._listen(self._noise + data)
            if rest:
                return rest
        return bytes(self._channel.recv(nbytes)) if self._is_begun else b""

    def _listen(self, heard: bytes) -> tuple[bytes, bool, bytes]:
        """Return what is still noise, whether the mark was heard, and what stands behind it."""
        _, mark, rest = heard.partition(self._mark)
        return (b"", True, rest) if mark else (heard, False, b"")
