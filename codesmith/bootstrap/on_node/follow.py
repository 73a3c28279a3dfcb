"""Run a command until it ends or its reader has gone; a blank line on stderr shows every 3 s that it still runs.

Runs on the node as root: `python3 -I -S -c PROGRAM`, the command as JSON on standard input, which then stays open.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

BEAT_S = 3.0


def is_open(timeout_s: float) -> bool:
    """Wait; return False once our standard input has ended."""
    ready, _, _ = select.select([0], [], [], timeout_s)
    return not ready or bool(os.read(0, 4096))


def main() -> int:
    """Run the command until it ends or its reader has gone; return its exit status."""
    # A hangup or a closed pipe must not leave the command running.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    with subprocess.Popen(json.loads(sys.stdin.buffer.readline()), stdin=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and is_open(BEAT_S):
                os.write(2, b"\n")
        finally:
            process.terminate()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
