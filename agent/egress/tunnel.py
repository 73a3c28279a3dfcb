"""Bytes from one connection to another: as they come, not faster than the other side reads, ends passed on."""

from __future__ import annotations

import asyncio
import socket
from typing import Callable, List, Optional

PIECE = 256 * 1024
# What all directions keep for sides that do not read. Above that they read little at a time.
KEPT_MAX, SMALL_PIECE = 16 * 1024 * 1024, 4 * 1024


class Buffer:
    """Where all directions of a server read to, one after the other, and how much they keep besides."""

    def __init__(self) -> None:
        self.space = memoryview(bytearray(PIECE))
        self.kept = 0


class Direction:
    """One of the two ways. It reads only when all that was read is sent, so it keeps a piece at most."""

    def __init__(
        self, source: socket.socket, target: socket.socket, first: bytes, buffer: Buffer, on_move: Callable[[], None]
    ) -> None:
        """`first` was read from the source already."""
        self.source, self.target = source, target
        self.is_ended = False
        self._loop = asyncio.get_running_loop()
        self._first, self._buffer, self._on_move = first, buffer, on_move
        self._waiting = memoryview(b"")
        self._done: Callable[[Optional[OSError]], None] = lambda _: None

    def start(self, done: Callable[[Optional[OSError]], None]) -> None:
        """Begin; `done` is called at the end of the source, or with the error of either side."""
        self._done = done
        if self._first:
            self._keep(self._first)
        else:
            self._loop.add_reader(self.source, self._read)

    def stop(self) -> None:
        """Leave both descriptors alone."""
        if self._waiting:
            self._buffer.kept -= len(self._waiting)
            self._waiting = memoryview(b"")
            self._loop.remove_writer(self.target)
        self._loop.remove_reader(self.source)

    def _read(self) -> None:
        size = PIECE if self._buffer.kept < KEPT_MAX else SMALL_PIECE
        try:
            count = self.source.recv_into(self._buffer.space, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if not count:
            self._end(None)
            return
        self._on_move()
        try:
            sent = self.target.send(self._buffer.space[:count])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._end(error)
            return
        if sent < count:
            self._loop.remove_reader(self.source)
            self._keep(bytes(self._buffer.space[sent:count]))

    def _keep(self, data: bytes) -> None:
        self._waiting = memoryview(data)
        self._buffer.kept += len(data)
        self._loop.add_writer(self.target, self._write)

    def _write(self) -> None:
        try:
            sent = self.target.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        self._on_move()
        self._buffer.kept -= sent
        self._waiting = self._waiting[sent:]
        if not self._waiting:
            self._loop.remove_writer(self.target)
            self._loop.add_reader(self.source, self._read)

    def _end(self, error: Optional[OSError]) -> None:
        self.stop()
        self.is_ended = True
        if error is None:
            try:
                self.target.shutdown(socket.SHUT_WR)
            except OSError as gone:
                error = gone
        self._done(error)


class Quiet:
    """Cancels the current task when nothing has moved for a while, if `is_over` says so then."""

    def __init__(self, quiet_s: float, is_over: Callable[[], bool] = lambda: True) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._quiet_s, self._is_over = quiet_s, is_over
        self._is_moving = False
        self._timer = self._loop.call_later(quiet_s, self._look)

    def moved(self) -> None:
        """Note that something moved."""
        self._is_moving = True

    def stop(self) -> None:
        """Leave the task alone."""
        self._timer.cancel()

    def _look(self) -> None:
        if not self._is_moving and self._is_over() and self._task is not None:
            self._task.cancel()
            return
        self._is_moving = False
        self._timer = self._loop.call_later(self._quiet_s, self._look)


async def carry(directions: List[Direction]) -> None:
    """Return when all directions have ended; at once when one has failed."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: Optional[OSError]) -> None:
        if not over.done() and (error is not None or all(one.is_ended for one in directions)):
            over.set_result(None)

    try:
        for direction in directions:
            direction.start(done)
        await over
    finally:
        for direction in directions:
            direction.stop()


async def tunnel(client: socket.socket, server: socket.socket, early: bytes, buffer: Buffer, quiet_s: float) -> None:
    """Connect both sides until both have ended. One that is half ended and quiet for long has lost its other half."""
    quiet = Quiet(quiet_s, lambda: any(direction.is_ended for direction in directions))
    directions = [
        Direction(client, server, early, buffer, quiet.moved),
        Direction(server, client, b"", buffer, quiet.moved),
    ]
    try:
        await carry(directions)
    finally:
        quiet.stop()
