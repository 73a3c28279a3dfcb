"""One command on a node: its input, its output and its exit status, within a deadline."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesmith.ssh.transport import NodeTransport

CHUNK = 65536
TAIL_BYTES = 4096
STATUS_WITHIN_S = 2.0
# More than any script of CodeSmith prints. A node that prints without end would fill this machine's memory.
OUTPUT_MAX_BYTES = 16 << 20


class ExecChannel:
    """An exec channel that runs `command`. All waits together have `timeout_s`; TimeoutError after that.

    `feed` gets each chunk of standard output as it arrives.
    """

    def __init__(self, transport: NodeTransport, command: str, timeout_s: float, feed: Callable[[bytes], None]) -> None:
        self._deadline, self._feed = time.monotonic() + timeout_s, feed
        self.stdout, self.stderr = bytearray(), bytearray()
        self._last_output = time.monotonic()
        self._channel = transport.open_session_when_free(timeout_s)
        try:
            self._channel.exec_command(command)
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> ExecChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def send(self, data: bytes) -> None:
        """Send input. It is no error if the command ends without reading it."""
        # The input fits sshd's window, or the script reads it before it prints: output need not be read meanwhile.
        self._channel.settimeout(max(self._deadline - time.monotonic(), 0.001))
        with self._ending_is_no_error():
            self._channel.sendall(data)

    def end_input(self) -> None:
        """Send the end of input."""
        with self._ending_is_no_error():
            self._channel.shutdown_write()

    def wait_for(self, is_there: Callable[[], bool], within_s: float = float("inf")) -> bool:
        """Read output until `is_there()` is true; return False if the command ended before that.

        TimeoutError after `within_s`, or when the channel's own time is over.
        """
        deadline = min(self._deadline, time.monotonic() + within_s)
        while not is_there():
            if self._is_read_out():
                return False
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._read(left_s)
        return True

    def read_to_end(self) -> None:
        """Read output until the command ends."""
        self.wait_for(lambda: False)

    def follow(self, keep: bytes, silence_s: float) -> None:
        """Read until the command ends; keep only `keep` and the last output. EOFError after `silence_s` without any."""
        self._last_output = time.monotonic()
        while not self._is_read_out():
            left_s = self._last_output + silence_s - time.monotonic()
            if left_s <= 0:
                raise EOFError(f"no sign of life for {silence_s:.0f} s")
            self._read(left_s)
            self.stderr = self.stderr[-TAIL_BYTES:]
            if len(self.stdout) > CHUNK and keep in self.stdout:
                self.stdout = bytearray(keep) + self.stdout[-TAIL_BYTES:]

    def has_status(self) -> bool:
        """Return whether the command ended by itself; without a status it was killed, or the connection was lost."""
        self._channel.status_event.wait(STATUS_WITHIN_S)  # set by the status, or by the end of the channel
        return self.status >= 0

    @property
    def status(self) -> int:
        """The exit status of the command; less than 0 if there is none."""
        return int(self._channel.exit_status)

    def _read(self, timeout_s: float) -> None:
        channel = self._channel
        if not channel.recv_ready() and not channel.recv_stderr_ready():
            _wait(channel.fileno(), timeout_s)
        if channel.recv_ready() or channel.recv_stderr_ready():
            self._last_output = time.monotonic()
        if channel.recv_ready():
            chunk = channel.recv(CHUNK)
            self.stdout += chunk
            self._feed(chunk)
        if channel.recv_stderr_ready():
            self.stderr += channel.recv_stderr(CHUNK)
        if len(self.stdout) + len(self.stderr) > OUTPUT_MAX_BYTES:
            raise EOFError(f"it printed more than {OUTPUT_MAX_BYTES >> 20} MiB")

    def _is_read_out(self) -> bool:
        channel = self._channel
        is_over = channel.eof_received or channel.closed  # read first: no output can arrive after it
        return bool(is_over) and not channel.recv_ready() and not channel.recv_stderr_ready()

    @contextlib.contextmanager
    def _ending_is_no_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self._channel.closed and not self._channel.eof_received:
                raise


def _wait(descriptor: int, timeout_s: float) -> None:
    poll = select.poll()  # select() refuses descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    poll.poll(min(timeout_s, 60.0) * 1000)
