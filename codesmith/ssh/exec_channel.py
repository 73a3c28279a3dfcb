"""One command on a node: what goes in, and everything it says, until a deadline."""

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
LAST_WORDS = 4096
STATUS_WITHIN_S = 2.0
# More than any script of ours prints; a node that prints on would otherwise fill this machine's memory.
OUTPUT_MAX = 16 << 20


class Exchange:
    """An exec channel that runs `command`; raises TimeoutError after `timeout_s`, all waits together."""

    def __init__(self, transport: NodeTransport, command: str, timeout_s: float, feed: Callable[[bytes], None]) -> None:
        self._deadline, self._feed = time.monotonic() + timeout_s, feed
        self.stdout, self.stderr = bytearray(), bytearray()
        self._heard = time.monotonic()
        self._channel = transport.open_session_when_free(timeout_s)
        try:
            self._channel.exec_command(command)
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def send(self, data: bytes) -> None:
        """Send input. That a command which is ending does not read it is no error."""
        # The whole input fits sshd's window or the script reads it first: nothing has to be read meanwhile.
        self._channel.settimeout(max(self._deadline - time.monotonic(), 0.001))
        with self._ending_is_no_error():
            self._channel.sendall(data)

    def end_input(self) -> None:
        """Say that no more input follows."""
        with self._ending_is_no_error():
            self._channel.shutdown_write()

    def wait_for(self, is_there: Callable[[], bool], within_s: float = float("inf")) -> bool:
        """Read until `is_there`, judging by what was said; False if the command ended without it."""
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
        """Read all that the command still says."""
        self.wait_for(lambda: False)

    def hear(self, keep: bytes, silence_s: float) -> None:
        """Read until the command ends, keeping `keep` and its last words; EOFError when it is silent for so long."""
        self._heard = time.monotonic()
        while not self._is_read_out():
            left_s = self._heard + silence_s - time.monotonic()
            if left_s <= 0:
                raise EOFError(f"no sign of life for {silence_s:.0f} s")
            self._read(left_s)
            self.stderr = self.stderr[-LAST_WORDS:]
            if len(self.stdout) > CHUNK and keep in self.stdout:
                self.stdout = bytearray(keep) + self.stdout[-LAST_WORDS:]

    def has_status(self) -> bool:
        """Return whether the command ended by itself; without a status it was killed, or the connection with it."""
        self._channel.status_event.wait(STATUS_WITHIN_S)  # set by the status, or by the end of the channel
        return self.status >= 0

    @property
    def status(self) -> int:
        """Return the status that the command ended with; less than 0 where there is none."""
        return int(self._channel.exit_status)

    def _read(self, timeout_s: float) -> None:
        channel = self._channel
        if not channel.recv_ready() and not channel.recv_stderr_ready():
            _wait(channel.fileno(), timeout_s)
        if channel.recv_ready() or channel.recv_stderr_ready():
            self._heard = time.monotonic()
        if channel.recv_ready():
            chunk = channel.recv(CHUNK)
            self.stdout += chunk
            self._feed(chunk)
        if channel.recv_stderr_ready():
            self.stderr += channel.recv_stderr(CHUNK)
        if len(self.stdout) + len(self.stderr) > OUTPUT_MAX:
            raise EOFError(f"it printed more than {OUTPUT_MAX >> 20} MiB")

    def _is_read_out(self) -> bool:
        channel = self._channel
        is_over = channel.eof_received or channel.closed  # before the look at what is left: nothing follows it
        return bool(is_over) and not channel.recv_ready() and not channel.recv_stderr_ready()

    @contextlib.contextmanager
    def _ending_is_no_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self._channel.closed and not self._channel.eof_received:
                raise


def _wait(descriptor: int, timeout_s: float) -> None:
    poll = select.poll()  # select() itself refuses descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    poll.poll(min(timeout_s, 60.0) * 1000)
