"""One plain HTTP request and its response. The connection ends with them, so a next request is a new connection."""

from __future__ import annotations

import asyncio
import re
import socket

from agent.egress import http_heads
from agent.egress.client import Client, Gone
from agent.egress.http_heads import CHUNKED, Request
from agent.egress.refused import Refused
from agent.egress.tunnel import Buffer, Direction, Quiet, carry

PIECE = 64 * 1024
LINE_MAX, TRAILERS_MAX = 1024, 32 * 1024
CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e]*)?\r\n")
INTERIM_MAX = 20


async def exchange(client: Client, server: socket.socket, request: Request, buffer: Buffer, quiet_s: float) -> None:
    """Send a request with its body, and what the server answers; Refused while the client has got nothing yet."""
    task = asyncio.current_task()
    assert task is not None
    quiet = Quiet(quiet_s)
    loop = asyncio.get_running_loop()
    sending = loop.create_task(_send(client, server, request, quiet))
    # Who goes in the middle of his request, or breaks its framing, ends it all.
    sending.add_done_callback(lambda done: None if done.cancelled() or done.exception() is None else task.cancel())
    try:
        await _answer(client, server, buffer, quiet)
    finally:
        quiet.stop()
        sending.cancel()
        await asyncio.wait([sending])


async def _send(client: Client, server: socket.socket, request: Request, quiet: Quiet) -> None:
    """Send head and body, never more. A server that reads no more may still answer."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(server, request.head)
        if request.length != CHUNKED:
            await _send_bytes(client, server, request.length, quiet)
            return
        while True:
            line = CHUNK.fullmatch(await client.take_until(b"\r\n", LINE_MAX))
            if line is None:
                raise Gone
            size = int(line[1], 16)
            if not size:
                break
            await loop.sock_sendall(server, b"%x\r\n" % size)
            await _send_bytes(client, server, size, quiet)
            if await client.take(2) != b"\r\n":
                raise Gone
            await loop.sock_sendall(server, b"\r\n")
        await _drop_trailers(client)
        await loop.sock_sendall(server, b"0\r\n\r\n")
    except OSError:
        return
    except Refused:
        raise Gone from None


async def _send_bytes(client: Client, server: socket.socket, size: int, quiet: Quiet) -> None:
    while size:
        data = await client.take_some(min(size, PIECE))
        quiet.moved()
        await asyncio.get_running_loop().sock_sendall(server, data)
        size -= len(data)


async def _drop_trailers(client: Client) -> None:
    left = TRAILERS_MAX
    while (line := await client.take_until(b"\r\n", LINE_MAX)) != b"\r\n":
        left -= len(line)
        if left < 0:
            raise Gone


async def _answer(client: Client, server: socket.socket, buffer: Buffer, quiet: Quiet) -> None:
    """Pass on interim responses, then the last one up to the end of the server's connection."""
    from_server = Client(server)
    for _ in range(INTERIM_MAX):
        try:
            status, head = http_heads.parse_response(await from_server.take_head())
        except (Gone, OSError, Refused):
            raise Refused(502, "the server has given no response of HTTP") from None
        quiet.moved()
        if status == 101:
            break
        await client.send(head)
        if status >= 200:
            await carry([Direction(server, client.connection, bytes(from_server.rest), buffer, quiet.moved)])
            return
    raise Refused(502, "the server's response is not for this request")
