"""Which addresses nobody reaches from a workspace by way of the node, and which only if they are listed.

Names are not judged here: whoever dials resolves once, judges all addresses, and dials what it judged.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import Callable, Iterator, List, Tuple

from agent.shared.host_lists import Address, Network, unmapped

NEVER = (
    # This host, link-local, multicast, reserved; then metadata of Alibaba, Azure and Oracle.
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24",
    # Of 64:ff9b:1::/48 only its network knows where the IPv4 address is; then metadata of Amazon and Google.
    "::/96", "fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b:1::/48",
    "fd00:ec2::/32", "fd20:ce::254/128",
)  # fmt: skip
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
# IPv6 addresses with an IPv4 address in their last four bytes: NAT64, and translated (SIIT).
WITH_IPV4_AT_END = ("64:ff9b::/96", "::ffff:0:0:0/96")
TEREDO, SIX_TO_FOUR = ipaddress.IPv6Network("2001::/32"), ipaddress.IPv6Network("2002::/16")
ISATAP = (0x00005EFE, 0x02005EFE)

# rtnetlink(7)
GET_ROUTE, REQUEST, DESTINATION = 26, 1, 1
ERROR, HEADER, ROUTE = 2, struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI")
LOCAL_KINDS = range(2, 6)  # local, broadcast, anycast, multicast
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ESRCH, errno.EOPNOTSUPP)
ANSWER_TIMEOUT_S = 5.0


def is_own(address: Address) -> bool:
    """Return whether the kernel delivers to this address here, by its routes now; OSError when it cannot be asked.

    So aliases, routed ranges and addresses that came a moment ago are found too. It costs some microseconds.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    body += struct.pack("=HH", 4 + len(address.packed), DESTINATION) + address.packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(ANSWER_TIMEOUT_S)
        kernel.bind((0, 0))
        kernel.send(HEADER.pack(HEADER.size + len(body), GET_ROUTE, REQUEST, 1, 0) + body)
        answer = kernel.recv(4096)
    if HEADER.unpack_from(answer)[1] != ERROR:
        return ROUTE.unpack_from(answer, HEADER.size)[7] in LOCAL_KINDS
    number = -struct.unpack_from("=i", answer, HEADER.size)[0]
    if number in NO_ROUTE:
        return False
    raise OSError(number, "the kernel tells no route")


def is_never_reached(address: Address, is_own: Callable[[Address], bool] = is_own) -> bool:
    """Return whether nobody may reach this address, also if it is listed.

    Loopback, link-local, metadata, multicast, the node's own addresses, and all forms of these in IPv6.
    """
    return any(_is_in(form, NEVER_NETWORKS) or is_own(form) for form in forms(address))


def is_private(address: Address) -> bool:
    """Return whether this is, in any form, an address of private networks: only for whom it was listed."""
    return any(_is_in(form, PRIVATE_NETWORKS) for form in forms(address))


def forms(address: Address) -> Tuple[Address, ...]:
    """Return an address and those in it, to which a gateway may translate it."""
    return (unmapped(address), *_embedded(unmapped(address)))


def _embedded(address: Address) -> Iterator[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return
    packed = address.packed
    if _is_in(address, NETWORKS_WITH_IPV4) or int.from_bytes(packed[8:12], "big") in ISATAP:
        yield ipaddress.IPv4Address(packed[12:])
    if address in SIX_TO_FOUR:
        yield ipaddress.IPv4Address(packed[2:6])
    if address in TEREDO:  # server, and client with all bits turned over
        yield ipaddress.IPv4Address(packed[4:8])
        yield ipaddress.IPv4Address(bytes(byte ^ 0xFF for byte in packed[12:]))


def _is_in(address: Address, networks: List[Network]) -> bool:
    return any(address in network for network in networks)


def _networks(texts: Tuple[str, ...]) -> List[Network]:
    return [ipaddress.ip_network(text) for text in texts]


NEVER_NETWORKS, PRIVATE_NETWORKS, NETWORKS_WITH_IPV4 = map(_networks, (NEVER, PRIVATE, WITH_IPV4_AT_END))
