"""Whole processes, timed in turns: A B A B, so that what else runs on the machine hits all alike."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codesmith.errors import CodeSmithError


@dataclass(frozen=True)
class Command:
    """A command line with its environment.

    `proof` must be in its output (runs of blanks count as one), or it did something else than we mean to time.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    proof: str = ""

    def run(self) -> float:
        """Run it to its end; return the seconds from start to exit."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip
        took = time.perf_counter() - begun
        if done.returncode or self.proof not in " ".join(done.stdout.split()):
            said = f"`{' '.join(self.argv)}` ended with {done.returncode}, without {self.proof!r}:\n{done.stdout}"
            raise CodeSmithError(said.strip())
        return took


def in_turns(rounds: int, *works: Callable[[], float]) -> list[list[float]]:
    """Return what each work measured, `rounds` times; the first turn of all warms up and is forgotten."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, series in zip(works, found, strict=True):
            value = work()
            if turn:
                series.append(value)
    return found


def until(is_so: Callable[[], bool], within_s: float, pause_s: float = 0.2) -> bool:
    """Look again until it is so; False when the time is over."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


def words(*argv: object) -> tuple[str, ...]:
    """Return a command line as strings."""
    return tuple(map(str, argv))
