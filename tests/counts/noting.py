"""Records programs started here, by Python's audit events, and shells started on a node, by a login shell."""

from __future__ import annotations

from pathlib import Path

from codesmith.lab import LabNode

# Every Python process that we start reads this first; the forwarder too, which inherits our environment.
SITECUSTOMIZE = """
import os, sys

def note(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec"):
        with open(os.environ["NOTED_PROGRAMS"], "a") as file:
            file.write(f"{os.path.basename(os.fsdecode(arguments[0]))}\\n")

sys.addaudithook(note)
"""
SHELL = """#!/bin/sh
echo started >>/run/shells
exec /bin/bash "$@"
"""
INSTALL = "cat >/usr/local/bin/noting; chmod 755 /usr/local/bin/noting; usermod --shell /usr/local/bin/noting root"


class Programs:
    """The programs that Python processes of this machine started."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._file = folder / "programs"
        self.environment = {"NOTED_PROGRAMS": str(self._file), "PYTHONPATH": str(folder)}

    def take(self) -> tuple[str, ...]:
        """Return the programs started since the last call, in order; any Python is `python`."""
        found = self._file.read_text().split() if self._file.exists() else []
        self._file.unlink(missing_ok=True)
        return tuple("python" if name.startswith("python") else name for name in found)


class Shells:
    """The login shells that sshd of a node started for root."""

    def __init__(self, node: LabNode) -> None:
        self._node = node
        node.run(["sh", "-euc", INSTALL], input=SHELL)

    def take(self) -> int:
        """Return the number of shells started since the last call."""
        return int(self._node.run(["sh", "-c", "touch /run/shells; wc -l </run/shells; : >/run/shells"]).stdout)
