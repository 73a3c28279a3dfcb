"""Other processes that use the lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


class Script:
    """Another process that uses the lab; it prints lines and lives until it is ended."""

    def __init__(self, code: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        with self.process:
            self.process.kill()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Start Python code in a process of its own."""
    started: list[Script] = []

    def start(code: str, *args: str) -> Script:
        started.append(Script(code, *args))
        return started[-1]

    yield start
    for one in started:
        one.kill()
