"""A private folder for each ssh master: its control socket, its log, the host keys it may accept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from codesmith.paths import ensure_private, runtime_dir
from codesmith.ssh.openssh.mux import Control

PREFIX = "ssh-"
TERMINATE_S = 2.0


class Folder:
    """Made for one connection and locked while its process lives; `remove` takes it away."""

    def __init__(self) -> None:
        with _alone(runtime_dir()) as place:
            remove_stale(place)
            self.path = ensure_private(place / f"{PREFIX}{secrets.token_hex(4)}")
            self._lock = _lock(self.path)

    @property
    def control(self) -> Path:
        """The master's control socket."""
        return self.path / "c"

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file into it."""
        path = self.path / name
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(mode)
        return path

    def remove(self) -> None:
        """Take it away with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[Path]:
    """Let nobody else make or remove folders here meanwhile: a new one is not locked from its first instant."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(descriptor)


def remove_stale(place: Path) -> None:
    """Remove the folders of processes that were killed, and end masters that still run there."""
    for path in place.glob(f"{PREFIX}*"):
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
    """Hold the folder's lock; None if somebody else does, or it is gone. The kernel drops it with our process."""
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
