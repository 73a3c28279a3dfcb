"""A TCP relay on loopback that adds a round-trip time, for kernels without netem."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import codesmith
from codesmith.lab.programs import environment


@dataclass
class Traffic:
    """The traffic of a relay. `round_trips` counts how often the caller waited for an answer before it continued.

    Data sent before an answer has come belongs to the same round trip, provided the sender is quicker than the relay:
    use 100 ms where the number matters. Connecting is not counted, nor what arrives after the caller has ended.
    """

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    round_trips: int = 0


class Relay:
    """Context manager around a relay process; gives its (host, port) on loopback.

    It is a process of its own, so that it does not slow down the interpreter that is measured. It ends with the process
    that started it.
    """

    def __init__(self, host: str, port: int, rtt_ms: float) -> None:
        self.target, self.rtt_ms = (host, port), rtt_ms
        self._lock = threading.Lock()

    def __enter__(self) -> tuple[str, int]:
        arguments = [self.target[0], str(self.target[1]), str(self.rtt_ms)]
        argv = [sys.executable, "-m", "codesmith.lab.relay_server", *arguments]
        top = str(Path(codesmith.__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**environment(), "PYTHONPATH": top}, text=True
        )
        return "127.0.0.1", int(self._answer())

    def __exit__(self, *error: object) -> None:
        # It exits when its input ends; Popen then closes both pipes.
        with self._process:
            pass

    def traffic(self) -> Traffic:
        """Return the traffic so far."""
        with self._lock:
            return Traffic(**json.loads(self._answer("traffic\n")))

    def _answer(self, question: str = "") -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question)
        self._process.stdin.flush()
        return self._process.stdout.readline()
