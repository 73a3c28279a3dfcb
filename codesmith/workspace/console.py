"""A stream of a workspace, joined with this process's standard input, output and terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesmith import paths
from codesmith.cli import output, terminal
from codesmith.errors import BadArgument, CodeSmithError, Interruption, StreamLost, UnknownName
from codesmith.sdk.api import Tty
from codesmith.sdk.ended import Ended
from codesmith.sdk.streams import INPUT_BYTES_MAX, Stream

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

# What a program gets whose reader is gone: 128 + SIGPIPE.
NOBODY_READS = Ended(141, "SIGPIPE", "disconnect", state="killed")

# What an agent answers that has no such directory to start a command in; a command may end with it, but never at once.
NO_DIRECTORY = 2


class NobodyReads(Exception):
    """Standard output, or standard error, is a pipe whose other end is closed."""


class Detached(Exception):
    """The person at the terminal has typed the keys that detach from a job."""


@dataclass(frozen=True)
class Command:
    """A command to run in a workspace, with its surroundings."""

    workspace: str
    argv: Sequence[str]
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    timeout_s: float | None = None


def wanted_tty(*, tty: bool, no_tty: bool, by_default: bool) -> Tty | None:
    """Return the terminal that a command gets: by default one if this process has one; None for none."""
    if tty and no_tty:
        raise BadArgument("--tty and --no-tty exclude each other")
    if no_tty or not (tty or (by_default and terminal.is_interactive())):
        return None
    rows, cols = terminal.size()
    return Tty(rows=rows, cols=cols, term=terminal.kind())


def execute(client: Client, command: Command, source: int | None, tty: Tty | None) -> Ended:
    """Run a command in a workspace with the standard streams of this process; return how it ended.

    `source` is the descriptor that it reads. Ctrl-C goes to the command, a second one ends it with all it started.
    """
    try:
        run = client.run(
            command.workspace, command.argv, cwd=command.cwd, env=command.env, timeout_s=command.timeout_s,
            stdin=source is not None, tty=tty,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # it starts with its stream: nothing goes on there
    with run:
        try:
            with terminal.interrupts(lambda: run.signal("SIGINT"), run.wake_on):
                ended = join(run, Source(source), has_tty=tty is not None)
        except NobodyReads:
            return NOBODY_READS
        except Detached:
            raise Interruption("the connection is closed, which ends the command there, with all it started") from None
        except KeyboardInterrupt:
            raise Interruption("the command there is ended, with all it started") from None
        except StreamLost as lost:
            hint = (
                f"a job goes on without a connection: inv job.start {command.workspace} -- {shlex.join(command.argv)}"
            )
            raise StreamLost(f"{lost.problem}; it is ended there, with all it started", hint=hint) from None
    if command.cwd is not None and ended.exit_code == NO_DIRECTORY and not ended.duration_s:  # there was no process
        raise UnknownName(f"--cwd: {command.cwd} is no directory that can be entered there")
    say_why(ended)
    return ended


def say_why(ended: Ended) -> None:
    """Warn of what ended a command, if it was not its own."""
    if why := why_of(ended):
        output.warn([why])


def why_of(ended: Ended) -> str:
    """Return what ended a command in words; "" if it has ended by itself."""
    after = f" after {ended.duration_s:.1f} s" if ended.duration_s else ""
    why = {
        "timeout": f"ended by the timeout limit{after}",
        "memory": f"ended by the memory limit{after}",
        "operator": "ended by an operator: job.stop, workspace.stop or the like",
        "disconnect": "ended because its connection was lost",
    }
    return why.get(ended.killed_by or "", "")


@dataclass(frozen=True)
class Source:
    """What a command there reads: a descriptor, or nothing.

    `ends`: an end of it is passed on even if nothing came before, as of /dev/null.
    """

    descriptor: int | None
    ends: bool = True


def join(stream: Stream, source: Source, *, has_tty: bool = False, show: Callable[..., None] | None = None) -> Ended:
    """Copy between the standard streams and `stream` until the command ends; return how.

    A terminal here is raw while a command has one there. NobodyReads if output cannot be passed on any more, Detached
    by Enter ~ . at a terminal.
    """
    if not has_tty or not terminal.is_terminal(source.descriptor):
        return _copy(stream, source, None, show)
    with terminal.RawTerminal(stream.resize) as raw:
        stream.resize(*terminal.size())
        return _copy(stream, source, raw, show)


def _copy(stream: Stream, source: Source, raw: terminal.RawTerminal | None, show: Callable[..., None] | None) -> Ended:
    show = show or Outputs().write
    keys = _Input(stream, source, Keys(raw) if raw else None)
    with keys:
        omitted = stream.omitted_bytes
        try:
            for name, data in stream.pieces():
                if stream.omitted_bytes != omitted:
                    say_omitted(stream.omitted_bytes - omitted, show)
                    omitted = stream.omitted_bytes
                show(name, data)
        except StreamLost:
            if keys.is_detached:
                raise Detached from None
            if keys.unread:
                raise keys.unread from None
            raise
    return stream.result()


def say_omitted(count: int, show: Callable[..., None]) -> None:
    """Print that bytes are missing in front of what follows, and tell what counts them."""
    output.say(f"note: {count} bytes are left out here: the log keeps its beginning and its end")
    if skip := getattr(show, "skip", None):
        skip(count)


class Outputs:
    """Standard output and standard error, written byte for byte and in order."""

    def __init__(self, *, merged: bool = False, to_stderr: bool = False) -> None:
        out, err = sys.stderr if to_stderr else sys.stdout, sys.stdout if merged else sys.stderr
        self._streams = {"stdout": out, "stderr": err}
        self._descriptors = {name: terminal.descriptor_of(stream) for name, stream in self._streams.items()}
        for stream in self._streams.values():
            if stream is not None:
                with output.writing(stream):
                    stream.flush()

    def write(self, name: str, data: memoryview | bytes) -> None:
        """Write a piece; NobodyReads if nobody does, CodeSmithError if it cannot be written."""
        stream, descriptor = self._streams[name], self._descriptors[name]
        if stream is None:
            return
        is_written = False
        with output.writing(stream):  # a reader that is gone is no error there
            if descriptor is None:  # a Python caller has replaced it
                stream.write(bytes(data).decode("utf-8", "replace"))
            else:
                write_all(descriptor, data)
            is_written = True
        if not is_written:
            raise NobodyReads


def write_all(descriptor: int, data: memoryview | bytes) -> None:
    """Write all of it; waits for a descriptor that another program has made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class Keys:
    """Finds what is meant for this process in what is typed: Enter ~ . detaches, Enter ~ Ctrl-Z suspends, ~~ is a ~.

    These are the keys of ssh. Of two such programs, one in the other, the outer one takes the first ~.
    """

    def __init__(self, raw: terminal.RawTerminal) -> None:
        self._suspend = raw.suspend
        self._is_start, self._has_tilde = True, False
        self.is_detached = False

    def filter(self, data: bytes) -> bytes:
        """Return what goes on to the command, up to the keys that detach."""
        if not self._has_tilde and b"~" not in data:
            self._is_start = data[-1:] in (b"\r", b"\n")
            return data
        passed = bytearray()
        for byte in data:
            if self._has_tilde:
                self._has_tilde = False
                if byte == ord("."):
                    self.is_detached = True
                    return bytes(passed)
                if byte == 0x1A:
                    self._suspend()
                    continue
                passed += b"~" if byte == ord("~") else bytes([ord("~"), byte])
            elif byte == ord("~") and self._is_start:
                self._has_tilde = True
                continue
            else:
                passed.append(byte)
            self._is_start = byte in b"\r\n"
        return bytes(passed)


class _Input:
    """A thread that sends what a descriptor has, while its block lasts."""

    def __init__(self, stream: Stream, source: Source, keys: Keys | None) -> None:
        self._stream, self._source, self._keys = stream, source, keys
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._send, name="input", daemon=True)
        # Why the input could not be read: it ends the command, since an input that is cut off is not all of it.
        self.unread: CodeSmithError | None = None

    def __enter__(self) -> _Input:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopper)
        self._stream.drop()  # wakes a thread that waits until the command reads
        self._thread.join()
        os.close(self._stop)

    @property
    def is_detached(self) -> bool:
        """Whether the keys that detach were typed."""
        return bool(self._keys and self._keys.is_detached)

    def _send(self) -> None:
        descriptor = self._source.descriptor
        if descriptor is None:
            return
        ready, was_empty = select.poll(), True
        ready.register(descriptor, select.POLLIN)
        ready.register(self._stop, select.POLLIN)
        with contextlib.suppress(OSError):  # the command has ended, or the stream
            while self._stop not in dict(ready.poll()):
                try:
                    data = _read(descriptor)
                except OSError as error:
                    self.unread = CodeSmithError(f"standard input: {error.strerror}")
                    self._stream.drop()
                    return
                if self._keys and data:
                    self._send_keys(self._keys.filter(data))
                    continue
                if not data:
                    if self._source.ends or not was_empty:
                        self._stream.end_input()
                    return
                was_empty = False
                self._stream.write(data)

    def _send_keys(self, data: bytes) -> None:
        if data:
            self._stream.write(data)
        if self.is_detached:
            self._stream.drop()
            raise BrokenPipeError


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, INPUT_BYTES_MAX)
    except BlockingIOError:  # another program has made it non-blocking, and was quicker
        select.select([descriptor], [], [])
        return os.read(descriptor, INPUT_BYTES_MAX)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EBADF):  # a terminal that is gone; what nohup gives, open for writing
            raise
        return b""


@contextlib.contextmanager
def opened(path: str | None, *, none: bool) -> Iterator[int | None]:
    """Give the descriptor of what a command reads: a file, nothing, or by default standard input."""
    if none and path is not None:
        raise BadArgument("--stdin and --no-stdin exclude each other")
    if none or path is None or path == "-":
        yield None if none else terminal.descriptor_of(sys.stdin)
        return
    try:
        descriptor = os.open(paths.expanded(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadArgument(f"--stdin: cannot read {path}: {error.strerror}") from None
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise BadArgument(f"--stdin: {path} is a directory")
        yield descriptor
    finally:
        os.close(descriptor)
