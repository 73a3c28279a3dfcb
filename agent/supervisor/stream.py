"""Streams: frames between a client's own connection and a job. STREAMS.md describes them."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Callable, Dict, Optional

from agent.supervisor import frames
from agent.supervisor.frames import BadFrame, Parser
from agent.supervisor.job import BUFFER, Job, Sink, signal_number
from agent.supervisor.log import Cursor, Log
from agent.supervisor.loop import Loop
from agent.supervisor.outbox import Outbox
from agent.supervisor.settings import Settings
from agent.supervisor.terminal import Terminal

# A client's last frames are read when it has gone already: so many chunks of them.
LAST_CHUNKS = 16


class Stream:
    """One client of one job: takes its frames, and asks whether it is still there."""

    # Whether a client that sends no frame for a long time counts as gone.
    must_answer = False

    def __init__(self, loop: Loop, descriptor: int, settings: Settings, on_close: Callable[[Stream], object]) -> None:
        """Take a connection; its descriptor is closed with the stream."""
        self._connection = socket.socket(fileno=descriptor)
        self._loop, self._settings, self._on_close = loop, settings, on_close
        self._outbox = Outbox(loop, self._connection, self._on_room, self.close)
        self._parser = Parser()
        self._job: Optional[Job] = None
        self._terminal: Optional[Terminal] = None
        self._last_input = b""
        self._is_ending = self.is_closed = False
        self._heard_at = self._sent_at = time.monotonic()
        loop.watch(descriptor, self._receive)
        loop.on_hangup(descriptor, self._on_hangup)
        self._timer = loop.at(self._heard_at + settings.ping_s, self._ping)

    def join(self, job: Optional[Job], terminal: Optional[Terminal]) -> None:
        """Take the frames of the client for this job from now on; None when it has ended."""
        self._job, self._terminal = job, terminal

    def close(self) -> None:
        """End the stream now."""
        if not self.is_closed:
            self.is_closed = True
            self._loop.cancel(self._timer)
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._on_close(self)

    def _finish(self, frame: bytes) -> None:
        """Send a last frame; close when it is sent."""
        if not self.is_closed:
            self._is_ending = True
            self._outbox.send(frame)
            if not self._outbox.size:
                self.close()

    def _on_room(self) -> None:
        self._sent_at = time.monotonic()
        if self._is_ending:
            self.close()

    def _on_hangup(self) -> None:
        self.close()

    def _receive(self) -> bool:
        """Read one chunk; False when there is none now."""
        try:
            size = self._connection.recv_into(BUFFER, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        if not size:  # also half-closed: behind a relay that is all that a client's end looks like
            self.close()
            return False
        self._parser.add(BUFFER[:size])
        self._take_frames()
        self._parser.keep()
        return not self.is_closed

    def _take_frames(self) -> None:
        """Take the frames that are there, for as long as the job takes what the client sends."""
        try:
            while not self.is_closed:
                if self._job is not None and self._job.input.is_full:
                    self._loop.pause(self._connection.fileno())
                    self._job.input.when_there_is_room(self._go_on)
                    return
                frame = self._parser.next()
                if frame is None:
                    return
                self._heard_at = time.monotonic()
                self._take(*frame)
        except (BadFrame, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            self.close()

    def _go_on(self) -> None:
        if not self.is_closed:
            self._heard_at = time.monotonic()
            self._loop.watch(self._connection.fileno(), self._receive)
            self._take_frames()

    def _take(self, kind: int, payload: memoryview) -> None:
        if kind == frames.INPUT and payload:
            self._last_input = bytes(payload[-1:])
            if self._job is not None:
                self._job.input.add(payload)
        elif kind == frames.INPUT:
            self._end_input()
        elif kind == frames.RESIZE:
            size = json.loads(bytes(payload))
            rows, columns = int(size["rows"]), int(size["cols"])
            if self._terminal is not None and self._terminal.is_open:
                self._terminal.resize(rows, columns)
        elif kind == frames.SIGNAL:
            number = signal_number(str(payload, "ascii", "replace"))
            if number is None:
                raise BadFrame("no signal")
            if self._job is not None:
                is_open = self._terminal is not None and self._terminal.is_open
                self._job.send_signal(number, self._terminal.foreground() if is_open and self._terminal else 0)

    def _end_input(self) -> None:
        if self._job is None:
            return
        if self._terminal is None:
            self._job.input.end()
        elif self._terminal.is_open:
            self._job.input.add(self._terminal.end_of_input(self._last_input))
            self._last_input = b""

    def _ping(self) -> None:
        now = time.monotonic()
        if not self._outbox.size:
            self._sent_at = now
        if self._outbox.size or (self._job is not None and self._job.input.is_full):
            # It does not read now, as a pager does, or is not read: then it cannot answer.
            self._heard_at = now
        is_silent = self.must_answer and now - self._heard_at > self._settings.silence_s
        if is_silent or (self._is_ending and now - self._sent_at > self._settings.unseen_s):
            self.close()
            return
        self._timer = self._loop.at(now + self._settings.ping_s, self._ping)
        if not self._outbox.size and not self._is_ending:
            self._outbox.send(frames.pack(frames.PING))


class RunStream(Stream, Sink):
    """The stream that a job lives with: it waits while the client does not read, and ends when the client goes."""

    must_answer = True

    def add(self, stream: int, data: memoryview) -> None:
        """Send what the job wrote."""
        if self.is_closed or not data:
            return
        self._outbox.send(frames.header(stream, len(data)), data)
        if self._outbox.size and self._job is not None:
            self._job.pause()

    def end(self, ended: Dict[str, Any]) -> None:
        """Tell how the job ended."""
        self._job = None
        self._finish(frames.pack_json(frames.END, ended))

    def _on_room(self) -> None:
        super()._on_room()
        if self._job is not None:
            self._job.resume()


class AttachedStream(Stream):
    """A stream that follows the log of a job at the client's own pace."""

    def __init__(
        self, loop: Loop, descriptor: int, settings: Settings, on_close: Callable[[Stream], object],
        log: Log, offset: int,
    ) -> None:  # fmt: skip
        super().__init__(loop, descriptor, settings, on_close)
        self._cursor = Cursor(log, offset)
        self._ended: Optional[Dict[str, Any]] = None
        self._is_writing = False
        self._outbox.send(frames.pack_json(frames.POSITION, {"offset": offset}))
        self.follow()

    def follow(self) -> None:
        """Send on, now that the log is longer; what waits in the outbox goes first, and then calls back."""
        if not self._is_writing and not self._outbox.size and not self.is_closed:
            self._is_writing = True
            self._loop.watch(self._connection.fileno(), self._send_on, writing=True)

    def end(self, ended: Dict[str, Any]) -> None:
        """Send the rest of the log, and how the job ended."""
        self._job, self._ended = None, ended
        self.follow()

    def _on_room(self) -> None:
        super()._on_room()
        self._is_writing = False
        self.follow()

    def _send_on(self) -> None:
        """Send one piece; what does not fit waits in the outbox, which calls back."""
        before = self._cursor.offset
        piece = self._cursor.next(frames.OUTPUT_MAX)
        if piece is None:
            self._loop.pause(self._connection.fileno(), writing=True)
            self._is_writing = False
            if self._ended is not None and not self._is_ending:
                self._finish(frames.pack_json(frames.END, self._ended))
            return
        parts = [frames.header(piece.stream, len(piece.data)), piece.data]
        if piece.offset != before:
            parts.insert(0, frames.pack_json(frames.POSITION, {"offset": piece.offset}))
        self._outbox.send(*parts)

    def _on_hangup(self) -> None:
        """Take what the client sent before it went, and go."""
        for _ in range(LAST_CHUNKS):
            if self.is_closed or not self._receive():
                break
        self.close()
