"""`inv workspace.exec demo` as a process of its own, and what a stand-in answers it."""

from __future__ import annotations

import subprocess
import threading
from types import SimpleNamespace

from tests.sdk.stream_doubles import Frames
from tests.tasks.conftest import INV, PATIENCE_S, TOP

EXEC = (INV, "workspace.exec", "demo")
# How a command ended that was asked for with --json.
EXECUTION = {
    "exit_code": 0,
    "signal": None,
    "stdout": "",
    "stdout_encoding": "text",
    "stderr": "",
    "stderr_encoding": "text",
    "truncated": False,
    "omitted_bytes": 0,
    "duration_s": 0.1,
    "killed_by": None,
}


def run(place, *words, where=EXEC, **options):
    settings = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.run(
        [*where, *words], cwd=TOP, env=place.environment, capture_output=True, timeout=PATIENCE_S, **settings
    )


def ends(*pieces, code=0, **fields):
    def play(frames: Frames) -> None:
        for kind, data in pieces:
            frames.send(kind, data)
        frames.end(code, **fields)

    return play


def start(place, *words):
    argv = [*EXEC, *words, "--", "make"]
    return subprocess.Popen(argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1)


def interrupted_after(started, is_there):
    """Threads for `executions`: Ctrl-C comes when so many have been started and `is_there` is set."""

    class Thread(threading.Thread):
        starts = 0

        def start(self):
            if threading.current_thread() is threading.main_thread():
                if Thread.starts == started:
                    assert not started or is_there.wait(PATIENCE_S)
                    raise KeyboardInterrupt
                Thread.starts += 1
            super().start()

    return SimpleNamespace(Thread=Thread, Lock=threading.Lock)
