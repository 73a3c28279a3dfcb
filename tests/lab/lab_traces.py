"""What a node leaves on this machine, and how to wait until it is gone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codesmith.lab import cgroups, network
from codesmith.lab.home import CLAIMS
from codesmith.lab.record import Record


def eventually(check: Callable[[], object], what: str, within_s: float = 20) -> None:
    """Wait for a condition; fail with `what` if it stays false."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass(frozen=True)
class Traces:
    """All that a node leaves on this machine while it exists."""

    folder: Path
    id: str

    @classmethod
    def of(cls, folder: Path) -> Traces:
        record = Record.read(folder)
        assert record is not None
        return cls(folder, record.id)

    def left(self) -> list[str]:
        """Return what exists now."""
        places = [self.folder, network.namespace(self.id), Path("/sys/class/net", self.id), CLAIMS / f"{self.id}.json"]
        places += [top / cgroups.GROUP / self.id for top in cgroups.hierarchies()]
        places += list(Path("/run/systemd/nspawn").glob(f"*/{self.id}"))
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if self._is_in(line)]
        return [str(place) for place in places if place.exists()] + mounts + self._processes()

    def _is_in(self, text: str) -> bool:
        """Tell whether the node is named: not another one whose name begins with its."""
        return re.search(f"({re.escape(str(self.folder))}|{re.escape(self.id)})(?![\\w-])", text) is not None

    def _processes(self) -> list[str]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if place.name != str(os.getpid()) and self._is_in(words):
                found.append(f"process {place.name}: {words!r}")
        return found
