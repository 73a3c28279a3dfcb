"""The relay process: delays each chunk by half a round trip each way, and a new connection by one more round trip.

Started as `python -m codesmith.lab.relay_server HOST PORT RTT_MS`. It prints its port, then the traffic for each line
on its input, until that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from codesmith.lab.relay import Traffic

CHUNK = 64 * 1024
# Chunks held back per direction before the sender has to wait, like a TCP window.
WINDOW_CHUNKS = 256


class Pipe:
    """One direction of one connection: a chunk that comes in goes out `delay_s` later.

    `arrived` is the number of round trips up to the last chunk that went out; -1 before the first.
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.arrived = delay_s, -1
        self.queue: asyncio.Queue[tuple[float, bytes, int]] = asyncio.Queue(WINDOW_CHUNKS)

    async def fill(self, reader: asyncio.StreamReader, count: Callable[[int], int]) -> None:
        """Read until the sender stops; the empty chunk at the end stands for its FIN."""
        clock = asyncio.get_running_loop().time
        while True:
            chunk = await reader.read(CHUNK)
            await self.queue.put((clock() + self.delay_s, chunk, count(len(chunk))))
            if not chunk:
                return

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Write each chunk when it is due."""
        clock = asyncio.get_running_loop().time
        while True:
            due, chunk, behind = await self.queue.get()
            if due > clock():
                await asyncio.sleep(due - clock())
            if not chunk:
                writer.write_eof()
                return
            self.arrived = max(self.arrived, behind)
            writer.write(chunk)
            await writer.drain()


class Server:
    """Listens, connects each caller to the target, counts traffic."""

    def __init__(self, host: str, port: int, rtt_ms: float) -> None:
        self.host, self.port, self.rtt_s = host, port, rtt_ms / 1000
        self.traffic = Traffic()

    async def serve(self) -> None:
        """Serve until standard input ends; answer each line on it with the traffic so far."""
        server = await asyncio.start_server(self.join, "127.0.0.1", 0)
        _answer_line(str(server.sockets[0].getsockname()[1]))
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            _answer_line(json.dumps(asdict(self.traffic)))
        # Open connections end with the process.
        os._exit(0)

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until both sides have ended."""
        self.traffic.connections += 1
        upward, downward = Pipe(self.rtt_s / 2), Pipe(self.rtt_s / 2)
        most, has_ended = 0, False

        def up(size: int) -> int:
            """Count bytes upward; what is sent now may depend on all that has arrived here."""
            nonlocal has_ended
            self.traffic.bytes_up, has_ended = self.traffic.bytes_up + size, size == 0
            return max(downward.arrived, 0)

        def down(size: int) -> int:
            """Count bytes downward; an answer is one round trip after what it may depend on."""
            nonlocal most
            self.traffic.bytes_down += size
            behind = upward.arrived + 1
            if size and not has_ended and behind > most:
                self.traffic.round_trips, most = self.traffic.round_trips + behind - most, behind
            return behind

        # The caller's connect was answered here at once. Over the network it takes a round trip, and the last packet of
        # the handshake reaches the target half a round trip later.
        await asyncio.sleep(self.rtt_s)
        sender = asyncio.create_task(upward.fill(reader, up))
        try:
            await asyncio.sleep(self.rtt_s / 2)
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
            try:
                there = upward.drain(far_writer)
                await _all_done(sender, there, downward.fill(far_reader, down), downward.drain(writer))
                await _all_done(_flush(far_writer), _flush(writer))
            finally:
                _cut(far_writer)
        except OSError:
            pass
        finally:
            sender.cancel()
            _cut(writer)


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Close once everything is sent; `abort` would discard what asyncio still buffers, up to 64 KiB."""
    writer.close()
    await writer.wait_closed()


def _cut(writer: asyncio.StreamWriter) -> None:
    """Abort a connection that did not end by itself; what is not yet sent is lost."""
    if not writer.transport.is_closing():
        writer.transport.abort()


def _answer_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _all_done(*work: Awaitable[None]) -> None:
    """Wait until all are done, or the first one fails; then cancel the rest."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def main() -> None:
    """Run a relay until standard input ends."""
    server = Server(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    # select() waits with microsecond precision; epoll, asyncio's default, with millisecond precision.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(server.serve())


if __name__ == "__main__":
    main()
