"""The stream of a command in a workspace: its output as it comes, its input, size, signals, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import socket
import struct
import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from codesmith.errors import AgentRefused, CodeSmithError, StreamLost
from codesmith.sdk.ended import Ended

TARGET, PROTOCOL, TOKEN_HEADER = "/stream", "codesmith-stream", "CodeSmith-Token"
INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, POSITION, REFUSAL = range(10)
OUTPUTS = {STDOUT: "stdout", STDERR: "stderr"}
HEADER = struct.Struct(">BI")
INPUT_BYTES_MAX = 64 << 10
OUTPUT_BYTES_MAX = 256 << 10
CONTROL_BYTES_MAX = 64 << 10
RECEIVE_BYTES = 256 << 10
# The server pings every 15 s, and gives up a client that is silent for 120 s.
ALIVE_S = 15.0
SILENCE_S = 60


class Output(NamedTuple):
    """A piece of what a command wrote: `stream` is "stdout" or "stderr"; each piece comes after those before it."""

    stream: str
    data: bytes


class Stream:
    """One connection to a command that runs in a workspace.

    `for stream, data in run:` gives the output as it comes; `write`, `end_input`, `resize` and `signal` may be called
    by other threads meanwhile. Who writes much must read too: a command that nobody reads from stops reading. The end
    of the `with` block closes the connection; that ends a command of `Client.run`, and no job.
    """

    def __init__(self, connection: socket.socket, node: str, offset: int | None = None) -> None:
        self._socket, self._node = connection, node
        # Where the next byte stands in the output of a job; None if it is not known.
        self.offset = offset
        # What the node had already dropped from the log of a job.
        self.omitted_bytes = 0
        self._ended: Ended | None = None
        self._output = self._read()
        self._waking: int | None = None
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        # Only for reading: who writes may wait as long as the command does not read.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_S, 0))
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sender = threading.Thread(target=self._send_orders, name="stream", daemon=True)
        self._sender.start()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Output]:
        for stream, data in self.pieces():
            yield Output(stream, bytes(data))

    def pieces(self) -> Iterator[tuple[str, memoryview]]:
        """Yield the output as (stream, memory) without copying it; the memory is valid until the next piece.

        StreamLost if the connection ends before the command, AgentRefused if it did not start.
        """
        return self._output

    def read(self) -> tuple[bytes, bytes]:
        """Return the rest of stdout and of stderr, when the command has ended."""
        found: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for stream, data in self:
            found[stream].append(data)
        return b"".join(found["stdout"]), b"".join(found["stderr"])

    def result(self) -> Ended:
        """Return how the command ended; waits for it, and drops the output that nobody has read."""
        for _ in self._output:
            pass
        if self._ended is None:
            raise StreamLost(f"{self._node}: the stream was closed before the command ended")
        return self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send input; returns when it is on its way. BrokenPipeError if the command has ended."""
        view = memoryview(data).cast("B")
        while view:
            self._send(INPUT, view[:INPUT_BYTES_MAX])
            view = view[INPUT_BYTES_MAX:]

    def end_input(self) -> None:
        """End the input: the command reads an end of file, a terminal gets Ctrl-D."""
        self._send(INPUT, b"")

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal another size. Returns at once; may be called by a signal handler."""
        self._orders.put((RESIZE, json.dumps({"rows": rows, "cols": cols}).encode()))

    def signal(self, name: str) -> None:
        """Send a signal such as "SIGINT" to the command. Returns at once; may be called by a signal handler."""
        self._orders.put((SIGNAL, name.encode("ascii")))

    def wake_on(self, descriptor: int | None) -> None:
        """Let who reads look up when a descriptor can be read, so that a signal's handler runs; it is emptied then."""
        self._waking = descriptor

    def drop(self) -> None:
        """End the connection under whoever reads or writes; they get an error. May be called by another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; safe to call again."""
        self._orders.put(None)
        self.drop()
        self._sender.join()
        self._socket.close()

    def _send(self, kind: int, payload: bytes | memoryview) -> None:
        parts = [HEADER.pack(kind, len(payload)), payload]
        with self._lock:
            sent = self._socket.sendmsg(parts)
            if sent < HEADER.size + len(payload):
                self._socket.sendall(b"".join(parts)[sent:])

    def _send_orders(self) -> None:
        """Send what is ordered, and a sign of life while nothing is: also while nobody reads the output."""
        with contextlib.suppress(OSError):
            while True:
                try:
                    order = self._orders.get(timeout=ALIVE_S)
                except queue.Empty:
                    order = (PONG, b"")
                if order is None:
                    return
                self._send(*order)

    def _read(self) -> Generator[tuple[str, memoryview], None, None]:
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        head, kind, left, control = b"", 0, 0, b""
        while True:
            data = buffer[: self._receive(buffer)]
            while data:
                if len(head) < HEADER.size:
                    missing = HEADER.size - len(head)
                    head, data = head + bytes(data[:missing]), data[missing:]
                    if len(head) < HEADER.size:
                        break
                    kind, left = self._parse_header(head)
                    control = b""
                piece, data = data[:left], data[left:]
                left -= len(piece)
                if kind in OUTPUTS:
                    if self.offset is not None:
                        self.offset += len(piece)
                    if piece:
                        yield OUTPUTS[kind], piece
                else:
                    control += bytes(piece)
                if left:
                    break
                head = b""
                if self._obey(kind, control):
                    return

    def _parse_header(self, head: bytes) -> tuple[int, int]:
        kind, size = HEADER.unpack(head)
        if size > (OUTPUT_BYTES_MAX if kind in OUTPUTS else CONTROL_BYTES_MAX):
            raise self._nonsense(f"a frame of {size} bytes")
        return kind, size

    def _obey(self, kind: int, payload: bytes) -> bool:
        """Do what a whole frame says; return whether it was the last one."""
        if kind in OUTPUTS or kind == PING:  # signs of life are sent without being asked for
            return False
        try:
            if kind == POSITION:
                self._move_to(int(json.loads(payload)["offset"]))
                return False
            if kind == END:
                self._ended = _ended(json.loads(payload))
                return True
            if kind == REFUSAL:
                raise _refusal(json.loads(payload))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._nonsense(f"a frame that is {type(error).__name__}") from None
        raise self._nonsense(f"a frame of type {kind}")

    def _move_to(self, offset: int) -> None:
        if self.offset is not None and offset > self.offset:
            self.omitted_bytes += offset - self.offset
        self.offset = offset

    def _receive(self, buffer: memoryview) -> int:
        try:
            self._await_data()
            count = self._socket.recv_into(buffer)
        except BlockingIOError:
            raise StreamLost(f"{self._node}: the stream was silent for {SILENCE_S} s") from None
        except OSError as error:
            raise StreamLost(f"{self._node}: the connection broke: {error.strerror or error}") from None
        if not count:
            raise StreamLost(f"{self._node}: the connection ended before the command did")
        return count

    def _await_data(self) -> None:
        ready = select.poll()
        while (waking := self._waking) is not None:
            ready.register(self._socket, select.POLLIN)
            ready.register(waking, select.POLLIN)
            found = dict(ready.poll(SILENCE_S * 1000))
            if waking not in found:
                return
            with contextlib.suppress(BlockingIOError):
                os.read(waking, CONTROL_BYTES_MAX)

    def _nonsense(self, what: str) -> CodeSmithError:
        return CodeSmithError(f"{self._node} sent something that is no stream: {what}", hint="inv node.prepare")


def _ended(data: dict[str, Any]) -> Ended:
    code, name, killed_by = data["exit_code"], data["signal"], data["killed_by"]
    if not isinstance(code, int | None) or not all(isinstance(word, str | None) for word in (name, killed_by)):
        raise TypeError
    return Ended(code, name, killed_by, float(data["duration_s"] or 0), str(data["state"]))


def _refusal(data: dict[str, Any]) -> AgentRefused:
    return AgentRefused(str(data["message"]), code=int(data["code"]), data=dict(data.get("data") or {}))
