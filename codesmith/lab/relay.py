"""A far-away door to a node: a TCP relay on loopback that adds a round-trip time, for kernels without netem."""

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
    """What went through a relay; `round_trips` is how often the caller had to wait for an answer before it went on.

    What is sent before an answer came is part of the same round trip, as long as the sender is quicker than the relay:
    give it 100 ms where the number matters. Connecting is not among them, nor what comes after the caller's end.
    """

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    round_trips: int = 0


class Relay:
    """Context manager around a relay process; gives (host, port) on loopback.

    A process of its own, so that it does not share an interpreter with what is measured. It ends with the process that
    started it.
    """

    def __init__(self, host: str, port: int, rtt_ms: float) -> None:
        self.target, self.rtt_ms = (host, port), rtt_ms
        self._lock = threading.Lock()

    def __enter__(self) -> tuple[str, int]:
        what = [self.target[0], str(self.target[1]), str(self.rtt_ms)]
        argv = [sys.executable, "-m", "codesmith.lab.relay_server", *what]
        top = str(Path(codesmith.__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**environment(), "PYTHONPATH": top}, text=True
        )
        return "127.0.0.1", int(self._answer())

    def __exit__(self, *error: object) -> None:
        # It leaves when its input ends; Popen then closes both pipes.
        with self._process:
            pass

    def traffic(self) -> Traffic:
        """Return what went through so far."""
        with self._lock:
            return Traffic(**json.loads(self._answer("traffic\n")))

    def _answer(self, question: str = "") -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question)
        self._process.stdin.flush()
        return self._process.stdout.readline()
