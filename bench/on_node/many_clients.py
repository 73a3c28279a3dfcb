"""Runs on the node as root: sixteen client processes at once, on the agent and on the bare library, in turns.

Prints {"agent": [calls per second], "bare": [calls per second], "failed": count}.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from client import AGENT_SOCKET, Client

CLIENTS, CALLS = 16, 200
BARE_SOCKET, BARE_UNIT = "/run/bench-bare.sock", "bench-bare"


def client(path, go):
    """Connect, call once, wait for the common start, then make all calls."""
    connection = Client(path)
    connection.call("node.version")
    os.read(go, 1)
    for _ in range(CALLS):
        connection.call("node.version")


def calls_per_second(path):
    """Return the calls per second of all clients together, and how many clients failed."""
    go, start = os.pipe()
    pids = []
    for _ in range(CLIENTS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                client(path, go)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    time.sleep(0.3)  # time to connect; a late client counts against the server
    begun = time.perf_counter()
    os.write(start, b"x" * CLIENTS)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    took = time.perf_counter() - begun
    os.close(go)
    os.close(start)
    return CLIENTS * CALLS / took, failed


def main():
    """Time both servers in turns, after one turn to warm up."""
    # It runs as a service like the agent, because the kernel divides processor time among units.
    program = Path(__file__).with_name("bare_server.py")
    command = [sys.executable, "-sE", str(program), BARE_SOCKET]
    subprocess.run(["systemd-run", "--quiet", "--collect", f"--unit={BARE_UNIT}", *command], check=True)
    try:
        while not Path(BARE_SOCKET).exists():
            subprocess.run(["systemctl", "is-active", "--quiet", BARE_UNIT], check=True)
            time.sleep(0.05)
        found, lost = {"agent": [], "bare": []}, 0
        for turn in range(int(sys.argv[1]) + 1):
            for side, path in (("agent", AGENT_SOCKET), ("bare", BARE_SOCKET)):
                rate, failed = calls_per_second(path)
                lost += failed
                if turn:
                    found[side].append(rate)
        print(json.dumps({**found, "failed": lost}))
    finally:
        subprocess.run(["systemctl", "stop", BARE_UNIT], check=True)
        Path(BARE_SOCKET).unlink()


main()
