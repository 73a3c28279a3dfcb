"""The relay process: holds every chunk back for half a round trip each way, and a new connection for one more.

Started as `python -m codesmith.lab.relay_server HOST PORT RTT_MS`; says its port, then the traffic for each line it is
given, until its input ends.
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
# Held back per direction before the sender has to wait, as a TCP window would make him.
WINDOW_CHUNKS = 256


class Pipe:
    """One direction of one connection: what comes in goes out `delay_s` later.

    `arrived` is how many round trips lie behind the latest of what went out; -1 before the first.
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.arrived = delay_s, -1
        self.queue: asyncio.Queue[tuple[float, bytes, int]] = asyncio.Queue(WINDOW_CHUNKS)

    async def fill(self, reader: asyncio.StreamReader, count: Callable[[int], int]) -> None:
        """Take in until the sender stops; the empty chunk at the end stands for his FIN."""
        clock = asyncio.get_running_loop().time
        while True:
            chunk = await reader.read(CHUNK)
            await self.queue.put((clock() + self.delay_s, chunk, count(len(chunk))))
            if not chunk:
                return

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Give out what is due."""
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
    """Listens, joins each caller to the target, counts."""

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
        """Carry one connection to its end."""
        self.traffic.connections += 1
        upward, downward = Pipe(self.rtt_s / 2), Pipe(self.rtt_s / 2)
        most, has_ended = 0, False

        def up(size: int) -> int:
            """What is sent now may build on all that has arrived here."""
            nonlocal has_ended
            self.traffic.bytes_up, has_ended = self.traffic.bytes_up + size, size == 0
            return max(downward.arrived, 0)

        def down(size: int) -> int:
            """An answer is one round trip behind what it may build on; what was not asked for is none."""
            nonlocal most
            self.traffic.bytes_down += size
            behind = upward.arrived + 1
            if size and not has_ended and behind > most:
                self.traffic.round_trips, most = self.traffic.round_trips + behind - most, behind
            return behind

        # The caller's connect was answered here, at once; from afar it takes a round trip, and the last
        # packet of the handshake reaches the other side half a round trip later.
        await asyncio.sleep(self.rtt_s)
        sender = asyncio.create_task(upward.fill(reader, up))
        try:
            await asyncio.sleep(self.rtt_s / 2)
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
            try:
                there = upward.drain(far_writer)
                await _together(sender, there, downward.fill(far_reader, down), downward.drain(writer))
                await _together(_flush(far_writer), _flush(writer))
            finally:
                _cut(far_writer)
        except OSError:
            pass
        finally:
            sender.cancel()
            _cut(writer)


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Close once everything is sent: `abort` discards what asyncio still buffers, up to 64 KiB."""
    writer.close()
    await writer.wait_closed()


def _cut(writer: asyncio.StreamWriter) -> None:
    """End what did not end by itself, with all that is still to be sent."""
    if not writer.transport.is_closing():
        writer.transport.abort()


def _answer_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _together(*work: Awaitable[None]) -> None:
    """Run until all are done, or until the first one fails."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def main() -> None:
    """Run a relay until standard input ends."""
    server = Server(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    # select() waits with the precision of a microsecond; epoll, asyncio's choice, with that of a millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(server.serve())


if __name__ == "__main__":
    main()
