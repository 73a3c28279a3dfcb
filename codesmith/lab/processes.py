"""Processes, told apart from later ones with the same pid by their start time."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Process:
    """A process: its pid, and its start time in clock ticks since boot."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has this pid now; None if there is none, or a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def me(cls) -> Process:
        """Return the calling process."""
        found = cls.of(os.getpid())
        assert found is not None
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any] | None) -> Process | None:
        """Return the process that was written as JSON; None for None."""
        return cls(int(found["pid"]), int(found["start"])) if found else None

    @property
    def is_alive(self) -> bool:
        """Tell whether this process still runs."""
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process; nothing happens if it has ended."""
        descriptor = self.open()
        if descriptor is None:
            return
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def open(self) -> int | None:
        """Return a pidfd of this process, readable once it ends; None if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Checked after opening: an open pidfd stays with its process even if the pid is reused.
        if self.is_alive:
            return descriptor
        os.close(descriptor)
        return None

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False if it still runs after `timeout_s`."""
        descriptor = self.open()
        if descriptor is None:
            return True
        try:
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)


def children(pid: int) -> list[int]:
    """Return the pids of the children of `pid`, oldest first."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def inner_pid(pid: int) -> int:
    """Return the pid of a process in its innermost pid namespace; 0 if it has ended."""
    return int(_status(pid).get("NSpid", "0").split()[-1])


def rss_kib(pid: int) -> int:
    """Return the memory that a process uses now (VmRSS), in KiB; 0 if it has ended."""
    return int(_status(pid).get("VmRSS", "0 kB").split()[0])


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
