"""The proxy of one workspace: accepts, tells protocols apart, dials, carries, and ends what is not allowed any more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Iterator, NamedTuple, Optional, Set

from agent.egress import http_heads, socks5
from agent.egress.client import Client, Gone
from agent.egress.denied import DeniedHosts
from agent.egress.dialling import Dialler, Resolve, resolve
from agent.egress.exchange import exchange
from agent.egress.http_heads import Request
from agent.egress.policy import Denied, Policy, PolicyFile
from agent.egress.refused import Refused
from agent.egress.tunnel import Buffer, tunnel
from agent.shared.host_lists import Address, Host

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
LOOK_AGAIN_S = 0.5
# So many refusals are written at once in so many seconds, others together at the end of them.
WRITES_MAX, WRITES_S = 8, 0.5
# After an error of accept(2), as when there are no descriptors: it would come again at once.
ACCEPT_AGAIN_S = 0.2


class Limits(NamedTuple):
    """How many connections at once, and how long each may take for what."""

    connections: int = 1000
    request_s: float = 30.0
    dial_s: float = 15.0
    # Without a byte: a plain request, or a tunnel of which one side has ended.
    quiet_s: float = 600.0


USUAL = Limits()


class Flow(NamedTuple):
    """A connection that was made, with what it has to be allowed to reach."""

    host: Host
    port: int
    address: Address
    task: asyncio.Task[None]


class Server:
    """Serves a listening socket until it is cancelled."""

    def __init__(
        self, listening: socket.socket, policy: PolicyFile, denied: DeniedHosts,
        resolve: Resolve = resolve, limits: Limits = USUAL,
    ) -> None:  # fmt: skip
        self._listening, self._policy, self._denied, self._limits = listening, policy, denied, limits
        self._dialler = Dialler(policy, resolve, limits.dial_s)
        self._tasks: Set[asyncio.Task[None]] = set()
        self._flows: Set[Flow] = set()
        self._forbidden: Set[Flow] = set()
        self._buffer = Buffer()
        self._seen: Optional[Policy] = None
        self._is_looking, self._writes_left = False, WRITES_MAX

    async def serve(self) -> None:
        """Accept while there is room; a client that finds none waits in the kernel."""
        loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        room = asyncio.Semaphore(self._limits.connections)
        try:
            while True:
                await room.acquire()
                try:
                    connection, _ = await loop.sock_accept(self._listening)
                except OSError:
                    room.release()
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                task = loop.create_task(self._serve(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(lambda _: room.release())
        finally:
            self._dialler.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._denied.is_changed:
                self._denied.write()

    async def _serve(self, connection: socket.socket) -> None:
        """Serve one client; whatever it does ends this connection alone."""
        with connection:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(connection)
            with contextlib.suppress(Gone, OSError, asyncio.TimeoutError, asyncio.CancelledError):
                first = await asyncio.wait_for(client.first(), self._limits.request_s)
                if first == socks5.VERSION:
                    await self._serve_socks(client)
                elif bytes((first,)).isalpha():
                    await self._serve_http(client)

    async def _serve_socks(self, client: Client) -> None:
        try:
            host, port = await asyncio.wait_for(socks5.read_request(client), self._limits.request_s)
            await self._tunnel(client, host, port, socks5.reply(socks5.SUCCEEDED))
        except Refused as refusal:
            self._count(refusal)
            await self._say(client, socks5.reply(refusal.reply))

    async def _serve_http(self, client: Client) -> None:
        try:
            try:
                head = await asyncio.wait_for(client.take_head(), self._limits.request_s)
            except asyncio.TimeoutError:
                raise Refused(408, "the request did not come in time") from None
            request = http_heads.parse_request(head)
            if request.is_connect:
                await self._tunnel(client, request.host, request.port, ESTABLISHED)
            else:
                await self._exchange(client, request)
        except Refused as refusal:
            self._count(refusal)
            await self._say(client, refusal.as_http())

    async def _say(self, client: Client, answer: bytes) -> None:
        """Send the last answer."""
        await asyncio.wait_for(client.send(answer), self._limits.request_s)
        await client.linger()

    async def _tunnel(self, client: Client, host: Host, port: int, answer: bytes) -> None:
        server, address = await self._dialler.dial(host, port)
        with server, self._flow(host, port, address):
            await asyncio.wait_for(client.send(answer), self._limits.request_s)
            early = bytes(client.rest)
            client.rest.clear()
            await tunnel(client.connection, server, early, self._buffer, self._limits.quiet_s)

    async def _exchange(self, client: Client, request: Request) -> None:
        server, address = await self._dialler.dial(request.host, request.port)
        with server, self._flow(request.host, request.port, address):
            await exchange(client, server, request, self._buffer, self._limits.quiet_s)
        await client.linger()

    @contextlib.contextmanager
    def _flow(self, host: Host, port: int, address: Address) -> Iterator[None]:
        """Have this task cancelled as soon as its policy does not allow it any more."""
        task = asyncio.current_task()
        assert task is not None
        flow = Flow(host, port, address, task)
        self._flows.add(flow)
        if not self._is_looking:
            self._is_looking, self._seen = True, self._policy.current()
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look)
        try:
            yield
        finally:
            self._flows.discard(flow)
            self._forbidden.discard(flow)

    def _look(self) -> None:
        """Look whether the policy has changed, while there are connections: an idle proxy does nothing at all."""
        if not self._flows:
            self._is_looking = False
            return
        asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look)
        policy = self._policy.current()
        if policy is not self._seen:
            self._seen = policy
            self._forbidden = {flow for flow in self._flows if not self._allows(flow)}
        # Again and again: before Python 3.12, wait_for() may lose a cancellation.
        for flow in list(self._forbidden):
            flow.task.cancel()

    def _allows(self, flow: Flow) -> bool:
        try:
            self._policy.check(flow.host, flow.port, flow.address)
        except Refused:
            return False
        return True

    def _count(self, refusal: Refused) -> None:
        if not isinstance(refusal, Denied):
            return
        self._denied.add(str(refusal.host), refusal.port)
        if self._writes_left:
            # At once, so that whoever asks when a command has failed finds why.
            self._writes_left -= 1
            self._write_denied()

    def _write_denied(self) -> None:
        self._denied.write()
        asyncio.get_running_loop().call_later(WRITES_S, self._may_write_again)

    def _may_write_again(self) -> None:
        if self._denied.is_changed:
            self._write_denied()
        else:
            self._writes_left += 1
