"""Streams that a token opened. They end with the token, so their bytes pass through this process.

All other streams are handed to the runtime. Here that would not do: what runs in the workspace may keep a socket that
it was given, and so outlive the token.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import Callable, Dict, Iterable, Iterator, Optional, Set

from agent.shared.errors import LimitReached

STREAMS_MAX = 64
CHUNK_BYTES = 256 << 10
# How often a stream is asked whether its token is still valid: it may expire.
LOOK_S = 0.5


class TokenStreams:
    """The streams of all tokens; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: Dict[str, Set[socket.socket]] = {}

    @contextmanager
    def one_more(self, token: str, client: socket.socket) -> Iterator[None]:
        """Count a stream in this context; LimitReached when there are STREAMS_MAX."""
        with self._lock:
            if sum(map(len, self._streams.values())) >= STREAMS_MAX:
                raise LimitReached(f"{STREAMS_MAX} streams of tokens are open", hint="try again")
            self._streams.setdefault(token, set()).add(client)
        try:
            yield
        finally:
            with self._lock:
                self._streams[token].discard(client)
                if not self._streams[token]:
                    del self._streams[token]

    def end(self, tokens: Iterable[str]) -> None:
        """End the streams of some tokens."""
        with self._lock:
            for token in tokens:
                for client in self._streams.get(token, ()):
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)


def pump(client: socket.socket, runtime: socket.socket, is_valid: Callable[[], bool]) -> None:
    """Carry bytes both ways until both sides have ended, the client has gone, or the stream is no longer valid.

    The end of one direction is passed on. A side that does not read holds up only what is sent to it. What a runtime
    sent before it went still arrives: it goes at once when a command has ended, whatever the client still sends.
    """
    ends = (client, runtime)
    waiting: Dict[socket.socket, memoryview] = {one: memoryview(b"") for one in ends}
    reading = set(ends)
    for one in ends:
        one.setblocking(False)
    looked_at = 0.0
    while reading or any(waiting.values()):
        if time.monotonic() - looked_at >= LOOK_S:
            if not is_valid():
                return
            looked_at = time.monotonic()
        poll = select.poll()
        for one, other in (ends, ends[::-1]):
            wants = select.POLLIN if one in reading and not waiting[other] else 0
            wants |= select.POLLOUT if waiting[one] else 0
            if wants:  # else a side that has gone would wake us again and again
                poll.register(one, wants)
        happened = dict(poll.poll(LOOK_S * 1000))
        for one, other in (ends, ends[::-1]):
            event = happened.get(one.fileno(), 0)
            if event and waiting[one] and not _send(one, waiting) and one is client:
                return
            if event & ~select.POLLOUT and one in reading and not waiting[other]:
                data = _receive(one)
                waiting[other] = memoryview(data or b"")
                if data == b"":
                    reading.discard(one)
                    with suppress(OSError):
                        other.shutdown(socket.SHUT_WR)


def _send(one: socket.socket, waiting: Dict[socket.socket, memoryview]) -> bool:
    """Send some of what waits for a side; forget it and return False when that side has gone."""
    try:
        waiting[one] = waiting[one][one.send(waiting[one]) :]
    except BlockingIOError:
        pass
    except OSError:
        waiting[one] = memoryview(b"")
        return False
    return True


def _receive(one: socket.socket) -> Optional[bytes]:
    """Return some bytes of a side; b"" at its end, None when there are none yet."""
    try:
        return one.recv(CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
