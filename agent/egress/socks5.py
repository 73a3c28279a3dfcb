"""SOCKS5 (RFC 1928): CONNECT alone, by name and by address, without authentication."""

from __future__ import annotations

import ipaddress
from typing import Tuple

from agent.egress.client import Client, Gone
from agent.egress.refused import FAILED, NO_SUCH_ADDRESS_TYPE, NO_SUCH_COMMAND, Refused
from agent.shared.host_lists import Host, parse_host, unmapped

VERSION, NO_AUTHENTICATION, NO_METHOD, CONNECT = 5, 0, 0xFF, 1
IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED = 0


async def read_request(client: Client) -> Tuple[Host, int]:
    """Greet, and return what the client wants to be connected to."""
    _, count = await client.take(2)
    if NO_AUTHENTICATION not in await client.take(count):
        await client.send(bytes((VERSION, NO_METHOD)))
        raise Gone
    await client.send(bytes((VERSION, NO_AUTHENTICATION)))
    version, command, _, kind = await client.take(4)
    if version != VERSION:
        raise Gone
    host = await _host(client, kind)
    port = int.from_bytes(await client.take(2), "big")
    if command != CONNECT:
        raise Refused(501, "only CONNECT", reply=NO_SUCH_COMMAND)
    if not port:
        raise Refused(400, "no port", reply=FAILED)
    return host, port


def reply(code: int) -> bytes:
    """Return the answer to a request; which address was used is nobody's concern."""
    return bytes((VERSION, code, 0, IPV4)) + bytes(6)


async def _host(client: Client, kind: int) -> Host:
    if kind == IPV4:
        return ipaddress.IPv4Address(await client.take(4))
    if kind == IPV6:
        return unmapped(ipaddress.IPv6Address(await client.take(16)))
    if kind != NAME:
        raise Refused(400, "no such kind of address", reply=NO_SUCH_ADDRESS_TYPE)
    length = (await client.take(1))[0]
    try:
        return parse_host((await client.take(length)).decode("ascii"))
    except ValueError:
        raise Refused(400, "no host name", reply=FAILED) from None
