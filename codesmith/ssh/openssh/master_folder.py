"""A private folder for each ssh master: its control socket, its log, and the host keys that it may accept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from codesmith.paths import ensure_private, locked, runtime_dir
from codesmith.ssh.openssh.mux import Control

PREFIX = "ssh-"
TERMINATE_S = 2.0


class MasterFolder:
    """Created for one connection, and locked until `remove` or the end of the process."""

    def __init__(self) -> None:
        parent = runtime_dir()
        # Before it has its own lock, others would remove the folder as stale.
        with locked(parent):
            remove_stale(parent)
            self.path = ensure_private(parent / f"{PREFIX}{secrets.token_hex(4)}")
            self._lock = _lock(self.path)

    @property
    def control(self) -> Path:
        """The path of the master's control socket."""
        return self.path / "c"

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file into the folder and return its path."""
        path = self.path / name
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(mode)
        return path

    def remove(self) -> None:
        """Remove the folder with everything in it, and release its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_stale(parent: Path) -> None:
    """Remove the folders of processes that were killed, and end the masters in them."""
    for path in parent.glob(f"{PREFIX}*"):
        lock = _lock(path)
        if lock is None:
            continue
        try:
            with contextlib.suppress(OSError, EOFError), Control(str(path / "c"), TERMINATE_S) as control:
                control.terminate()
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the folder's lock; None if another process holds it, or the folder is gone.

    The kernel releases the lock when the process ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
