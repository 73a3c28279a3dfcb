"""The forwarders that a run of tests started: they end with it, also when Ctrl-C cut its tests off from their ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import LOOK_AGAIN_S, is_running

# In the environment of all that the run starts.
RUN = "RUN_OF_TESTS"
PROGRAM = b"codesmith.tunnel"
END_S = 10.0


def mark_run() -> None:
    """Mark what is started from now on as this run's; a run within a run has a mark of its own."""
    os.environ[RUN] = secrets.token_hex(8)


def end_all() -> None:
    """End the forwarders of this run; return once they have ended."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        pids = list(_of_this_run())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        deadline = time.monotonic() + END_S
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_S)


def _of_this_run() -> Iterator[int]:
    mark = f"{RUN}={os.environ[RUN]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words, variables = ((folder / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            if PROGRAM in words and mark in variables:
                yield int(folder.name)
