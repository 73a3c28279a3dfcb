"""A copy by SFTP, for sides without rsync: the same rules, with each file whole in its place or not there."""
# ruff: noqa: PTH102, PTH105, PTH106, PTH108, PTH115, PTH119, PTH211, PTH101
# Paths are bytes, which pathlib does not know.

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from codesmith.workspace.copy_result import PARTIAL, Copied, part_of
from codesmith.workspace.sftp import Entry, Sftp

FILES_AT_ONCE = 8
PIECE_BYTES = 32 << 10


class Side(Protocol):
    """The files of one side."""

    def lstat(self, path: bytes) -> Entry | None:
        """Return what is at a path, a link as it is; None if there is nothing."""

    def list(self, path: bytes) -> dict[bytes, Entry]:
        """Return the entries of a directory."""

    def read_link(self, path: bytes) -> bytes:
        """Return what a symbolic link says."""

    def make_link(self, says: bytes, path: bytes) -> None:
        """Make a symbolic link."""

    def make_dir(self, path: bytes) -> None:
        """Make a directory."""

    def remove(self, path: bytes) -> None:
        """Remove what is no directory."""

    def remove_dir(self, path: bytes) -> None:
        """Remove an empty directory."""

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename a file, replacing one that is there."""

    def set(self, path: bytes, mode: int, mtime: int) -> None:
        """Set the permissions and the time of change."""

    def read(self, path: bytes, size: int) -> Iterator[bytes]:
        """Yield the bytes of a file."""

    def write(self, path: bytes, pieces: Iterator[bytes]) -> None:
        """Write a file that is not there yet."""


class Here:
    """The files of this machine."""

    def lstat(self, path: bytes) -> Entry | None:
        """Return what is at a path, a link as it is; None if there is nothing."""
        try:
            return _entry(os.lstat(path))
        except FileNotFoundError:
            return None

    def list(self, path: bytes) -> dict[bytes, Entry]:
        """Return the entries of a directory."""
        with os.scandir(path) as entries:
            return {entry.name: _entry(entry.stat(follow_symlinks=False)) for entry in entries}

    def read_link(self, path: bytes) -> bytes:
        """Return what a symbolic link says."""
        return os.readlink(path)

    def make_link(self, says: bytes, path: bytes) -> None:
        """Make a symbolic link."""
        os.symlink(says, path)

    def make_dir(self, path: bytes) -> None:
        """Make a directory."""
        os.mkdir(path)

    def remove(self, path: bytes) -> None:
        """Remove what is no directory."""
        os.unlink(path)

    def remove_dir(self, path: bytes) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename a file, replacing one that is there."""
        os.replace(old, new)

    def set(self, path: bytes, mode: int, mtime: int) -> None:
        """Set the permissions and the time of change."""
        os.chmod(path, mode & 0o777)
        os.utime(path, (mtime, mtime))

    def read(self, path: bytes, size: int) -> Iterator[bytes]:  # noqa: ARG002  the protocol's
        """Yield the bytes of a file."""
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def write(self, path: bytes, pieces: Iterator[bytes]) -> None:
        """Write a file that is not there yet."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=1 << 20) as file:
            for piece in pieces:
                file.write(piece)


class Copy:
    """One copy from a side to the other. `skipped` has what is neither a file, a directory nor a link.

    What would come to a path of `left_out` is not copied.
    """

    def __init__(
        self,
        source: Side,
        sink: Side,
        *,
        delete: bool,
        on_bytes: Callable[[int], None],
        left_out: Collection[bytes] = (),
    ) -> None:
        self._left_out = left_out
        self._source, self._sink, self._delete, self._on_bytes = source, sink, delete, on_bytes
        self._files: list[Future[None]] = []
        self._dirs: list[tuple[bytes, Entry]] = []
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._copied = self._bytes = self._deleted = 0
        self.skipped: list[str] = []

    def run(self, source: bytes, sink: bytes, *, is_contents: bool, is_into: bool) -> Copied:
        """Copy what is at `source`: its contents into `sink`, or itself; `is_into`: `sink` is meant as a directory."""
        entry = self._source.lstat(source)
        if entry is not None and is_contents and entry.is_link:
            source, entry = self._resolved(source)
        if entry is None or (is_contents and not entry.is_dir):
            word = "Not a directory" if entry else "No such file or directory"
            raise OSError(None, word, source)
        there = self._sink.lstat(sink)
        if there is not None and there.is_link:
            there = Entry(stat.S_IFDIR, 0, 0) if self._is_dir(sink) else there
        target = sink
        if not is_contents and (is_into or entry.is_dir or (there is not None and there.is_dir)):
            if there is None:
                self._sink.make_dir(sink)
            target = sink + b"/" + os.path.basename(source)
            there = self._sink.lstat(target)
        with ThreadPoolExecutor(FILES_AT_ONCE) as self._pool:
            try:
                self._one(source, target, entry, there)
                for future in self._files:
                    future.result()
            except BaseException:
                self._stopped.set()
                self._pool.shutdown(wait=False, cancel_futures=True)
                raise
        for path, kept in reversed(self._dirs):
            # The directory that is copied into keeps its own: what it lets in is its owner's choice.
            if not (is_contents and path == target and there is not None):
                self._sink.set(path, kept.mode, kept.mtime)
        return Copied(self._copied, self._bytes, self._deleted)

    def _resolved(self, path: bytes) -> tuple[bytes, Entry | None]:
        inside = path + b"/."
        return inside, self._source.lstat(inside)

    def _is_dir(self, path: bytes) -> bool:
        try:
            entry = self._sink.lstat(path + b"/.")
        except OSError:
            return False
        return entry is not None and entry.is_dir

    def _one(self, source: bytes, sink: bytes, entry: Entry, there: Entry | None) -> None:
        if entry.is_dir:
            self._directory(source, sink, entry, there)
        elif entry.is_link:
            self._link(source, sink, there)
        elif not entry.is_file:
            self.skipped.append(os.fsdecode(source))
        elif there is None or (there.is_file, there.size, there.mtime) != (True, entry.size, entry.mtime):
            self._files.append(self._pool.submit(self._file, source, sink, entry, there))
        elif (there.mode ^ entry.mode) & 0o777:
            self._sink.set(sink, entry.mode, entry.mtime)

    def _directory(self, source: bytes, sink: bytes, entry: Entry, there: Entry | None) -> None:
        if there is not None and not there.is_dir:
            self._sink.remove(sink)
            there = None
        if there is None:
            self._sink.make_dir(sink)
        self._dirs.append((sink, entry))
        existing = self._sink.list(sink) if there is not None else {}
        wanted = self._source.list(source)
        for name, one in wanted.items():
            if b"/" in name or name in (b"", b".", b".."):
                raise OSError(None, f"it has a name that is none: {name!r}", source)
            if not name.endswith(os.fsencode(PARTIAL)) and sink + b"/" + name not in self._left_out:
                self._one(source + b"/" + name, sink + b"/" + name, one, existing.get(name))
        for name in existing:
            if name.endswith(os.fsencode(PARTIAL)) or (self._delete and name not in wanted):
                self._remove(sink + b"/" + name, existing[name])

    def _link(self, source: bytes, sink: bytes, there: Entry | None) -> None:
        says = self._source.read_link(source)
        if there is not None:
            if there.is_link and self._sink.read_link(sink) == says:
                return
            self._remove(sink, there, is_counted=False)
        self._sink.make_link(says, sink)

    def _file(self, source: bytes, sink: bytes, entry: Entry, there: Entry | None) -> None:
        if self._stopped.is_set():
            return
        if there is not None and there.is_dir:
            self._remove(sink, there, is_counted=False)
        folder, _, name = sink.rpartition(b"/")
        part = (folder + b"/" if folder else b"") + part_of(name)
        with contextlib.suppress(OSError):
            self._sink.remove(part)
        self._sink.write(part, self._counted(self._source.read(source, entry.size)))
        self._sink.set(part, entry.mode, entry.mtime)
        self._sink.rename(part, sink)
        with self._lock:
            self._copied += 1

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._stopped.is_set():
                raise InterruptedError
            with self._lock:
                self._bytes += len(piece)
            self._on_bytes(len(piece))
            yield piece

    def _remove(self, path: bytes, entry: Entry, *, is_counted: bool = True) -> None:
        if entry.is_dir:
            for name, one in self._sink.list(path).items():
                self._remove(path + b"/" + name, one, is_counted=is_counted)
            self._sink.remove_dir(path)
        else:
            self._sink.remove(path)
        self._deleted += is_counted and not path.endswith(os.fsencode(PARTIAL))


def count(side: Side, path: bytes) -> int:
    """Return the bytes of the files at a path, for a rate and a time left."""
    entry = side.lstat(path)
    if entry is None or not entry.is_dir:
        return entry.size if entry is not None and entry.is_file else 0
    return sum(
        one.size if one.is_file else count(side, path + b"/" + name) if one.is_dir else 0
        for name, one in side.list(path).items()
    )


def as_sides(sftp: Sftp, *, comes_in: bool) -> tuple[Side, Side]:
    """Return the source and the sink of a copy into or out of a workspace."""
    here: Side = Here()
    there: Side = sftp
    return (here, there) if comes_in else (there, here)


def _entry(status: os.stat_result) -> Entry:
    return Entry(status.st_mode, status.st_size, int(status.st_mtime))
