"""Streams that follow a log, on a loop that a test turns by hand."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.supervisor import frames
from agent.supervisor.log import Log
from agent.supervisor.stream import AttachedStream


class Loop:
    """Knows the writer of the one connection, and the timer."""

    def __init__(self) -> None:
        self.writer: Callable[[], object] | None = None
        self.timer: Callable[[], object] = lambda: None

    def watch(self, descriptor: int, callback: Callable[[], object], *, writing: bool = False) -> None:
        self.writer = callback if writing else self.writer

    def pause(self, descriptor: int, *, writing: bool = False) -> None:
        self.writer = None if writing else self.writer

    def at(self, time: float, callback: Callable[[], object]) -> int:
        self.timer = callback
        return 0

    def write(self) -> None:
        """Call the writer for as long as there is one."""
        while self.writer is not None:
            self.writer()

    def ignore(self, *_: object) -> None:
        pass

    on_hangup = cancel = unwatch = ignore


def test_a_ping_that_has_no_room_stops_no_log(tmp_path: Path) -> None:
    loop: Any = Loop()
    ours, theirs = socket.socketpair()
    log, settings = Log(str(tmp_path)), SimpleNamespace(ping_s=1.0, silence_s=1.0, unseen_s=1.0)
    with ours, theirs.dup() as filler:
        theirs.setblocking(False)
        stream = AttachedStream(loop, theirs.detach(), settings, loop.ignore, log, 0)  # type: ignore[arg-type]
        loop.write()
        with suppress(BlockingIOError):
            while True:
                filler.send(bytes(1 << 16), socket.MSG_DONTWAIT)
        loop.timer()  # the ping waits
        log.add(frames.STDOUT, memoryview(b"more"))
        stream.follow()
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while ours.recv(1 << 20):
                pass
        loop.write()
        received = ours.recv(1 << 20)
        log.close()
        stream.close()
    assert received == frames.pack(frames.PING) + frames.header(frames.STDOUT, 4) + b"more"
