"""Times whole processes in turns (A B A B), so that other load on the machine affects all sides alike."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codesmith.errors import CodeSmithError

# On a slow machine ansible looks at twenty nodes for more than five minutes.
PATIENCE_S = 900


@dataclass(frozen=True)
class Command:
    """A command line with its environment.

    `proof` must be in its output (runs of blanks count as one); else it did not do what is to be timed.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    proof: str = ""

    def run(self) -> float:
        """Run it and return the seconds from start to exit; CodeSmithError with its output if it fails."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        took = time.perf_counter() - begun
        if done.returncode or self.proof not in " ".join(done.stdout.split()):
            problem = f"`{' '.join(self.argv)}` ended with {done.returncode}, without {self.proof!r}:\n{done.stdout}"
            raise CodeSmithError(problem.strip())
        return took


def in_turns(rounds: int, *works: Callable[[], float]) -> list[list[float]]:
    """Return the values of each work from `rounds` turns; the first turn warms up and is dropped."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, series in zip(works, found, strict=True):
            value = work()
            if turn:
                series.append(value)
    return found


def until(is_so: Callable[[], bool], within_s: float, pause_s: float = 0.2) -> bool:
    """Wait until `is_so` returns true; False if it does not within `within_s`."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


def words(*argv: object) -> tuple[str, ...]:
    """Return a command line as strings."""
    return tuple(map(str, argv))
