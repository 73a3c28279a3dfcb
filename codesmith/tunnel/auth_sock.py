"""The ssh agent that the forwarder uses: the one of the newest caller, because an older session may have ended."""

from __future__ import annotations

import os
import socket

VARIABLE = "SSH_AUTH_SOCK"
ANSWER_WITHIN_S = 1.0


def use_agent(path: str) -> bool:
    """Use the agent at `path` from now on; return False, without a change, if only the current one answers.

    Also False if `path` is empty or the current one.
    """
    current = os.environ.get(VARIABLE, "")
    if not path or path == current or (_answers(current) and not _answers(path)):
        return False
    os.environ[VARIABLE] = path
    return True


def _answers(path: str) -> bool:
    if not path:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(ANSWER_WITHIN_S)
        try:
            line.connect(path)
        except (BlockingIOError, TimeoutError):
            return True  # it is there, and busy
        except OSError:
            return False
    return True
