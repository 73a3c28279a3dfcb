"""The client's side of a connection while it says what it wants: read in pieces, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from agent.egress import http_heads
from agent.egress.refused import Refused

PIECE = 32 * 1024
# How long, and for how much, a refused client is listened to, so that it reads the answer before the connection ends.
LINGER_S, LINGER_MAX = 2.0, 1024 * 1024


class Gone(Exception):
    """The client closed the connection in the middle."""


class Client:
    """Reads what is needed and keeps what came with it: `rest`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.rest = bytearray()
        self._loop = asyncio.get_running_loop()

    async def more(self) -> None:
        """Wait for the next bytes; Gone at the end."""
        data = await self._loop.sock_recv(self.connection, PIECE)
        if not data:
            raise Gone
        self.rest += data

    async def first(self) -> int:
        """Return the first byte, which stays."""
        while not self.rest:
            await self.more()
        return self.rest[0]

    async def take(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        while len(self.rest) < size:
            await self.more()
        return self._cut(size)

    async def take_some(self, most: int) -> bytes:
        """Return what there is, at most so much, at least one byte."""
        await self.first()
        return self._cut(min(most, len(self.rest)))

    async def take_until(self, end: bytes, most: int) -> bytes:
        """Return what comes up to `end`, with it; Refused when that is longer than `most`."""
        searched = 0
        while (at := self.rest.find(end, searched, most)) < 0:
            if len(self.rest) >= most:
                raise Refused(431, f"more than {most} bytes")
            searched = max(len(self.rest) - len(end) + 1, 0)
            await self.more()
        return self._cut(at + len(end))

    async def take_head(self) -> bytes:
        """Return the head of a request up to its empty line."""
        # What was searched is not searched again: a client may send byte after byte.
        searched = 0
        while (at := self.rest.find(http_heads.END, searched, http_heads.HEAD_MAX)) < 0:
            if len(self.rest) >= http_heads.HEAD_MAX:
                raise Refused(431, f"a head of more than {http_heads.HEAD_MAX} bytes")
            if http_heads.is_broken(bytes(self.rest[searched:])):
                raise Refused(400, "lines end with CR and LF")
            searched = max(len(self.rest) - len(http_heads.END) + 1, 0)
            await self.more()
        return self._cut(at + len(http_heads.END))

    async def send(self, data: bytes) -> None:
        """Send a short answer."""
        await self._loop.sock_sendall(self.connection, data)

    async def linger(self) -> None:
        """Let the client read the answer: what it still sends would otherwise reset the connection."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self.connection.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(self._drop(), LINGER_S)

    async def _drop(self) -> None:
        dropped = 0
        while dropped < LINGER_MAX and (data := await self._loop.sock_recv(self.connection, PIECE)):
            dropped += len(data)

    def _cut(self, size: int) -> bytes:
        data = bytes(self.rest[:size])
        del self.rest[:size]
        return data
