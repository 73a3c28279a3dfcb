"""Run commands on the node, and report results to the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

COMMAND_TIMEOUT_S = 180
STDERR_MAX = 2000
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
}


class Failed(Exception):
    """An order that could not be carried out, with the command and its error output."""

    def __init__(self, message: str, command: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.command, self.stderr = command, stderr


def report(**line: Any) -> None:
    """Send one line to the controller; if it has gone, the work continues."""
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(
    argv: list[str],
    timeout_s: float = COMMAND_TIMEOUT_S,
    allowed: tuple[int, ...] = (0,),
    owner: tuple[int, int] | None = None,
) -> str:
    """Run one command to its end and return what it printed; Failed unless its status is allowed.

    Clean environment, no input, a time limit; as `owner` (uid and gid, no other groups) instead of root.
    """
    rights: dict[str, Any] = {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}
    shown = " ".join(argv)
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=timeout_s,
            check=False,
            **rights,
        )
    except OSError as error:
        raise Failed(str(error), shown) from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end within {timeout_s:.0f} s", shown) from error
    errors, output = (text.decode(errors="replace").strip() for text in (done.stderr, done.stdout))
    if done.returncode not in allowed:
        raise Failed(f"ended with status {done.returncode}", shown, (errors or output)[-STDERR_MAX:])
    return output
