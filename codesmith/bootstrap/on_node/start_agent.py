"""Start the agent and wait for its answer: a unit that systemd has started may still fail at once.

Runs on the node as root: `python3 -I -S -c PROGRAM`. Standard input: a line of JSON {"stop", "start", "path", "unit",
"sockets"}. If the file of a socket is missing all units are restarted, because only then systemd makes it again.
"""

from __future__ import annotations

import json
import os
import sys
import time

from codesmith.bootstrap.on_node.agent import wait_for_answer
from codesmith.bootstrap.on_node.commands import Failed
from codesmith.bootstrap.on_node.releases import restart


def main() -> int:
    """Start or restart the agent; return 1, with the reason on stderr, unless it answers."""
    job = json.loads(sys.stdin.buffer.readline())
    since = time.time()
    try:
        has_sockets = all(map(os.path.exists, job["sockets"]))
        restart(job["stop"] if has_sockets else job["start"], job["start"])
        wait_for_answer(job["path"], job["unit"], "", since)
    except Failed as failed:
        lines = failed.stderr.splitlines()
        sys.stderr.write(f"{failed}{f': {lines[-1]}' if lines else ''}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
