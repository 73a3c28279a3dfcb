"""Runs one system program: clean environment, given standard input, a time limit, absolute path.

Failures are logged once, as a command that can be pasted.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Collection, Optional, Sequence

from agent.shared.errors import CommandFailed, Unsupported
from agent.shared.paths import SYSTEM_PATH

ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/"}
STDERR_MAX = 2000


def find(program: str) -> str:
    """Return the absolute path of a system program; Unsupported when the node does not have it."""
    for folder in ENVIRONMENT["PATH"].split(":"):
        path = f"{folder}/{program}"
        if os.access(path, os.X_OK):
            return path
    raise Unsupported(f"this node has no {program}", hint="run `inv node.prepare`: it installs what is missing")


def run(
    program: str,
    *arguments: str,
    allowed: Collection[int] = (0,),
    timeout_s: Optional[float] = 60,
    text: str = "",
    keeps: Collection[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a system program and wait for its end; CommandFailed when its exit code is not in `allowed`.

    With `timeout_s=None` it is never killed: a program that holds an account lock must not end half-way. `text` is its
    standard input. It inherits the descriptors in `keeps`.
    """
    command: Sequence[str] = (find(program), *arguments)
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            timeout=timeout_s,
            encoding="utf-8",
            errors="replace",
            check=False,
            pass_fds=tuple(keeps),
        )
    except subprocess.TimeoutExpired:
        raise _failed(command, None, f"killed after {timeout_s} s") from None
    if done.returncode not in allowed:
        raise _failed(command, done.returncode, done.stderr)
    return done


def _failed(command: Sequence[str], exit_code: Optional[int], stderr: str) -> CommandFailed:
    text = shlex.join(command)
    print(f"command failed ({exit_code}): {text}\n{stderr}", file=sys.stderr, flush=True)
    reason = (stderr.strip().splitlines() or ["no message"])[-1]
    return CommandFailed(
        f"{os.path.basename(command[0])} failed: {reason}",
        command=text,
        exit_code=exit_code,
        stderr=stderr.strip()[-STDERR_MAX:],
    )
