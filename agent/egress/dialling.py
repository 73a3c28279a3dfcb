"""Connects to a host: resolves it once, judges every address, and dials what was judged."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, Sequence, Tuple

from agent.egress.policy import Denied, PolicyFile
from agent.egress.refused import REFUSED, UNREACHABLE, Refused
from agent.shared.host_lists import Address, Host, unmapped

Resolve = Callable[[str], Sequence[str]]
# getaddrinfo(3) may take as long as the node's DNS: others wait for it only when so many do.
RESOLVING_MAX, WAITING_MAX = 16, 256
ADDRESSES_MAX = 16


def resolve(name: str) -> List[str]:
    """Return the addresses of a name in the order of the node's preference, as getaddrinfo(3) gives them."""
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(answer[4][0]).partition("%")[0] for answer in answers]


class Dialler:
    """Opens connections that the policy allows; Refused says why there is none."""

    def __init__(self, policy: PolicyFile, resolve: Resolve, timeout_s: float) -> None:
        """Tests bring names of their own by `resolve`."""
        self._policy, self._resolve, self._timeout_s = policy, resolve, timeout_s
        self._pool = ThreadPoolExecutor(RESOLVING_MAX, thread_name_prefix="resolve")
        self._waiting = 0

    def close(self) -> None:
        """Forget names that wait to be resolved."""
        self._pool.shutdown(wait=False)

    async def dial(self, host: Host, port: int) -> Tuple[socket.socket, Address]:
        """Return a connection and the address at its other end."""
        # Before anything is looked up: a name can carry what its DNS server wants to know.
        self._policy.check(host, port)
        addresses = [host] if not isinstance(host, str) else await self._addresses(host)
        allowed: List[Address] = []
        denied = None
        for address in addresses:
            try:
                self._policy.check(host, port, address)
                allowed.append(address)
            except Denied as refusal:
                denied = denied or refusal
        if not allowed and denied is not None:
            raise denied
        return await self._first(host, port, allowed)

    async def _addresses(self, name: str) -> List[Address]:
        """Return what a name stands for, each once."""
        if self._waiting >= WAITING_MAX:
            raise Refused(503, "too many names wait to be resolved")
        self._waiting += 1
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._pool, self._resolve, name)
            texts = await asyncio.wait_for(answer, self._timeout_s)
            found = dict.fromkeys(unmapped(ipaddress.ip_address(text)) for text in texts)
        except asyncio.TimeoutError:
            raise Refused(504, f"{name} is not resolved in time", reply=UNREACHABLE) from None
        except (OSError, ValueError):
            found = {}
        finally:
            self._waiting -= 1
        if not found:
            raise Refused(502, f"{name} does not resolve", reply=UNREACHABLE)
        return list(found)[:ADDRESSES_MAX]

    async def _first(self, host: Host, port: int, addresses: List[Address]) -> Tuple[socket.socket, Address]:
        """Return a connection to the first address that accepts one; all together have the time limit."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        last = Refused(502, f"{host} has no address", reply=UNREACHABLE)
        for number, address in enumerate(addresses):
            share_s = max(deadline - loop.time(), 0) / (len(addresses) - number)
            try:
                connection = await _connect(address, port, share_s)
            except asyncio.TimeoutError:
                last = Refused(504, f"{host} ({address}) does not answer on port {port}", reply=UNREACHABLE)
                continue
            except OSError as error:
                reply = REFUSED if error.errno == errno.ECONNREFUSED else UNREACHABLE
                last = Refused(
                    502, f"{host} ({address}), port {port}: {os.strerror(error.errno or errno.EIO)}", reply=reply
                )
                continue
            try:
                # The policy, and the addresses of this node, may have changed meanwhile.
                self._policy.check(host, port, address)
            except Refused:
                connection.close()
                raise
            return connection, address
        raise last


async def _connect(address: Address, port: int, timeout_s: float) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(connection, (str(address), port)), timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection
