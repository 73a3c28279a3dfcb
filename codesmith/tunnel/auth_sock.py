"""The ssh agent that the forwarder asks: that of the newest caller, since its own may have ended with a session."""

from __future__ import annotations

import os
import socket

VARIABLE = "SSH_AUTH_SOCK"
ANSWERS_S = 1.0


def offer(path: str) -> bool:
    """Ask the agent at `path` from now on; False where that is no change, or only the one so far answers."""
    current = os.environ.get(VARIABLE, "")
    if not path or path == current or (_answers(current) and not _answers(path)):
        return False
    os.environ[VARIABLE] = path
    return True


def _answers(path: str) -> bool:
    if not path:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(ANSWERS_S)
        try:
            line.connect(path)
        except (BlockingIOError, TimeoutError):
            return True  # busy
        except OSError:
            return False
    return True
