"""sshd for one stream, as the workspace's login: not there yet."""

from __future__ import annotations

import subprocess
from typing import List

from agent.shared.errors import Unsupported


def host_keys() -> List[str]:
    """Return the public host keys of this runtime."""
    raise Unsupported("this runtime has no sshd")


def serve(stream: int, public_key: str) -> subprocess.Popen[bytes]:
    """Start an sshd that serves a stream and accepts this key."""
    raise Unsupported("this runtime has no sshd")
