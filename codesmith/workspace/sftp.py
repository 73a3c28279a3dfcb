"""A small client of SFTP 3 over a process: names are bytes, requests of several threads are under way at once."""

from __future__ import annotations

import contextlib
import itertools
import stat
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from codesmith.cli import output
from codesmith.errors import Unreachable

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, SETSTAT = 1, 2, 3, 4, 5, 6, 7, 9
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, READLINK, SYMLINK = 11, 12, 13, 14, 15, 16, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED = 101, 102, 103, 104, 105, 200
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES = 1, 2, 4, 8
FOR_READING, FOR_WRITING = 1, 2 | 8 | 16 | 32  # write, create, truncate, and only if it is new
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED = 0, 1, 2, 3
POSIX_RENAME = b"posix-rename@openssh.com"
VERSION_3 = 3
PIECE_BYTES, UNDER_WAY = 32 << 10, 64
ANSWER_MAX_BYTES = 1 << 20
SAID_LINES_MAX, SAID_BYTES_MAX = 20, 1 << 10


class Refused(OSError):
    """The server refused a request; `is_missing` says that there is no such file."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.strerror = code, text
        self.is_missing = code == NO_SUCH_FILE


@dataclass(frozen=True)
class Entry:
    """What a name stands for: its mode with the kind, its size in bytes, and its time of change in seconds."""

    mode: int
    size: int
    mtime: int

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory, and not a link to one."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Sftp:
    """The files of a workspace. Use it as a context manager; methods may be called by several threads."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._to, self._from, self._beside = self._process.stdin, self._process.stdout, self._process.stderr
        # What ssh and the far side say beside the answers: its last lines, for people, never as it is.
        self._said: deque[bytes] = deque(maxlen=SAID_LINES_MAX)
        self._listener = threading.Thread(target=self._listen, name="sftp errors", daemon=True)
        self._listener.start()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[tuple[int, bytes]]] = {}
        self._is_over = False
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        self._reader = threading.Thread(target=self._receive, name="sftp", daemon=True)
        self._reader.start()

    def __enter__(self) -> Sftp:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._reader.join()
        self._end()

    def _begin(self) -> None:
        self._send(struct.pack(">BI", INIT, VERSION_3))
        kind, body = self._read()
        if kind != VERSION or struct.unpack_from(">I", body)[0] < VERSION_3:
            raise Unreachable("the workspace has no SFTP", hint="inv node.verify")

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        with contextlib.suppress(OSError):  # what it did not read any more
            self._to.close()
        self._from.close()
        self._listener.join()
        self._beside.close()
        output.warn([line.decode("utf-8", "replace").strip() for line in self._said if line.strip()])

    def _listen(self) -> None:
        while line := self._beside.readline(SAID_BYTES_MAX):
            self._said.append(line)

    def lstat(self, path: bytes) -> Entry | None:
        """Return what is at a path, a link as it is; None if there is nothing."""
        try:
            _, body = self._ask(LSTAT, _string(path), ATTRS, path)
        except Refused as error:
            if error.is_missing:
                return None
            raise
        return _attributes(body, 0)[0]

    def list(self, path: bytes) -> dict[bytes, Entry]:
        """Return the entries of a directory."""
        handle = self._handle(OPENDIR, path)
        found: dict[bytes, Entry] = {}
        try:
            while True:
                _, body = self._ask(READDIR, _string(handle), NAME)
                found.update((name, entry) for name, entry in _names(body) if name not in (b".", b".."))
        except Refused as error:
            if error.code != EOF:
                raise
        finally:
            self._ask(CLOSE, _string(handle))
        return found

    def read_link(self, path: bytes) -> bytes:
        """Return what a symbolic link says."""
        _, body = self._ask(READLINK, _string(path), NAME, path)
        return next(_names(body))[0]

    def real_path(self, path: bytes) -> bytes:
        """Return the whole path, with no link in it; the last part of it may be missing."""
        _, body = self._ask(REALPATH, _string(path), NAME, path)
        return next(_names(body))[0]

    def make_link(self, says: bytes, path: bytes) -> None:
        """Make a symbolic link."""
        self._ask(SYMLINK, _string(says) + _string(path), path=path)  # OpenSSH's order, not that of the draft

    def make_dir(self, path: bytes) -> None:
        """Make a directory."""
        self._ask(MKDIR, _string(path) + struct.pack(">I", 0), path=path)

    def remove(self, path: bytes) -> None:
        """Remove what is no directory."""
        self._ask(REMOVE, _string(path), path=path)

    def remove_dir(self, path: bytes) -> None:
        """Remove an empty directory."""
        self._ask(RMDIR, _string(path), path=path)

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename a file, replacing one that is there."""
        self._ask(EXTENDED, _string(POSIX_RENAME) + _string(old) + _string(new), path=new)

    def set(self, path: bytes, mode: int, mtime: int) -> None:
        """Set the permissions and the time of change."""
        attributes = struct.pack(">IIII", HAS_MODE | HAS_TIMES, mode & 0o777, mtime, mtime)
        self._ask(SETSTAT, _string(path) + attributes, path=path)

    def write(self, path: bytes, pieces: Iterator[bytes]) -> None:
        """Write a file that is not there yet, readable by its owner alone."""
        attributes = struct.pack(">II", HAS_MODE, 0o600)
        handle = self._handle(OPEN, path, struct.pack(">I", FOR_WRITING) + attributes)
        offset = 0
        sent: list[Future[tuple[int, bytes]]] = []
        try:
            with _naming_path(path):
                for piece in pieces:
                    sent.append(self._start(WRITE, _string(handle) + struct.pack(">Q", offset) + _string(piece)))
                    offset += len(piece)
                    if len(sent) >= UNDER_WAY:
                        _check_answer(sent.pop(0).result(), STATUS)
                while sent:
                    _check_answer(sent.pop(0).result(), STATUS)
        finally:
            self._ask(CLOSE, _string(handle))

    def read(self, path: bytes, size: int) -> Iterator[bytes]:
        """Yield the bytes of a file in order; `size` is how many are expected, and it is read to its end."""
        handle = self._handle(OPEN, path, struct.pack(">II", FOR_READING, 0))
        try:
            yield from self._pieces(handle, size)
        finally:
            self._ask(CLOSE, _string(handle))

    def _pieces(self, handle: bytes, size: int) -> Iterator[bytes]:
        asked = got = 0
        sent: list[tuple[int, int, Future[tuple[int, bytes]]]] = []
        while True:
            while asked < size and len(sent) < UNDER_WAY:
                want = min(PIECE_BYTES, size - asked)
                sent.append((asked, want, self._start(READ, self._range(handle, asked, want))))
                asked += want
            if not sent:  # what was expected is there; the file may have grown
                sent.append((got, PIECE_BYTES, self._start(READ, self._range(handle, got, PIECE_BYTES))))
            at, want, future = sent.pop(0)
            while want:
                try:
                    _, body = _check_answer(future.result(), DATA)
                except Refused as error:
                    if error.code == EOF:
                        return
                    raise
                data = body[4:]
                yield data
                at, want, got = at + len(data), want - len(data), got + len(data)
                if want:
                    future = self._start(READ, self._range(handle, at, want))

    @staticmethod
    def _range(handle: bytes, offset: int, length: int) -> bytes:
        return _string(handle) + struct.pack(">QI", offset, length)

    def _handle(self, kind: int, path: bytes, body: bytes = b"") -> bytes:
        return self._ask(kind, _string(path) + body, HANDLE, path)[1][4:]

    def _ask(self, kind: int, body: bytes, expected: int = STATUS, path: bytes = b"") -> tuple[int, bytes]:
        with _naming_path(path):
            return _check_answer(self._start(kind, body).result(), expected)

    def _start(self, kind: int, body: bytes) -> Future[tuple[int, bytes]]:
        number, future = next(self._numbers), Future[tuple[int, bytes]]()
        with self._lock:
            if self._is_over:
                raise _lost()
            self._waiting[number] = future
            self._send(struct.pack(">BI", kind, number) + body)
        return future

    def _send(self, packet: bytes) -> None:
        try:
            self._to.write(struct.pack(">I", len(packet)) + packet)
            self._to.flush()
        except OSError:
            raise _lost() from None

    def _read(self) -> tuple[int, bytes]:
        head = self._from.read(4)
        if len(head) < 4 or not 0 < (size := struct.unpack(">I", head)[0]) <= ANSWER_MAX_BYTES:
            raise _lost()
        packet = self._from.read(size)
        if len(packet) < size:
            raise _lost()
        return packet[0], packet[1:]

    def _receive(self) -> None:
        try:
            while True:
                kind, body = self._read()
                self._waiting.pop(struct.unpack_from(">I", body)[0]).set_result((kind, body[4:]))
        except (Unreachable, OSError, ValueError, KeyError, struct.error):
            with self._lock:
                self._is_over = True
            for future in self._waiting.values():
                future.set_exception(_lost())


@contextlib.contextmanager
def _naming_path(path: bytes) -> Iterator[None]:
    """Say in a refusal which path it is about."""
    try:
        yield
    except Refused as error:
        error.filename = error.filename or path
        raise


def _lost() -> Unreachable:
    return Unreachable("the connection to the workspace ended", hint="inv node.status  # then the same again")


def _check_answer(answer: tuple[int, bytes], expected: int) -> tuple[int, bytes]:
    kind, body = answer
    if kind == STATUS:
        code, length = struct.unpack_from(">II", body)
        if code != OK or expected != STATUS:
            raise Refused(code, body[8 : 8 + length].decode("utf-8", "replace"))
    elif kind != expected:
        raise Refused(-1, f"an answer of kind {kind}")
    return answer


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _names(body: bytes) -> Iterator[tuple[bytes, Entry]]:
    (count,), at = struct.unpack_from(">I", body), 4
    for _ in range(count):
        (length,) = struct.unpack_from(">I", body, at)
        name = body[at + 4 : at + 4 + length]
        at += 4 + length
        at += 4 + struct.unpack_from(">I", body, at)[0]  # the line of `ls -l`
        entry, at = _attributes(body, at)
        yield name, entry


def _attributes(body: bytes, at: int) -> tuple[Entry, int]:
    (flags,) = struct.unpack_from(">I", body, at)
    at, size, mode, mtime = at + 4, 0, 0, 0
    if flags & HAS_SIZE:
        (size,) = struct.unpack_from(">Q", body, at)
        at += 8
    if flags & HAS_OWNER:
        at += 8
    if flags & HAS_MODE:
        (mode,) = struct.unpack_from(">I", body, at)
        at += 4
    if flags & HAS_TIMES:
        mtime = struct.unpack_from(">II", body, at)[1]
        at += 8
    return Entry(mode, size, mtime), at
