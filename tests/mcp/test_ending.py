"""A process that serves removes what it has made, whatever ends it and whenever."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys, threading, time
from codesmith.mcp.ending import Ending

lock = threading.Lock()

def remove():
    with lock:  # as a client's connection that is closed
        print("removed", flush=True)

with Ending() as ending:
    ending.callback(remove)
    if sys.argv[1] == "setup":
        with lock:
            print("ready", flush=True)
            time.sleep(60)
    ending.serve(lambda: (print("ready", flush=True), sys.stdin.readline()))
print("done", flush=True)
"""


@pytest.mark.parametrize("when", ["setup", "serving"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_what_was_made(when: str, number: signal.Signals) -> None:
    argv, pipe = [sys.executable, "-c", SCRIPT, when], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "removed\n"
        status = process.wait(20)
        assert process.stdout.read() == ""
    if number != signal.SIGINT:
        assert status == 128 + number
    elif when == "serving":
        assert status == 2


def test_without_a_signal_it_is_removed_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, "serving"], input="x\n", capture_output=True, text=True)
    assert done.stdout == "ready\nremoved\ndone\n"
