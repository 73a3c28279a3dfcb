"""Lists of hosts: what an entry may say, how a host is spelled in one way only, and whether a list allows it.

An entry is a name, `*.` and a name (what is below it, not itself), an address or a network; then a port, `:*` for
any, or nothing for 80 and 443:

    pypi.org   *.github.com:443   git.corp.example:22   10.0.0.0/8:*   2001:db8::/32   [2001:db8::7]:8443
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Iterable, NamedTuple, Optional, Tuple, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Host = Union[str, ipaddress.IPv4Address, ipaddress.IPv6Address]

ENTRIES_MAX = 256
DEFAULT_PORTS = (80, 443)
ANY_PORT = "*"
NAME_MAX, LABEL_MAX = 253, 63
BELOW = "*."
# IDNA 2003, which Python has, makes other letters of these, IDNA 2008 keeps them: two names for one spelling.
AMBIGUOUS = "ßς\u200c\u200d"
# IPv6 addresses that are IPv4 addresses for the kernel: ::ffff:127.0.0.1.
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Rule(NamedTuple):
    """One entry. `text` is its only spelling: lower case, ASCII, no final dot, the shortest form of an address."""

    host: Union[str, Network]
    port: str  # "": 80 and 443, "*": any
    is_below: bool = False

    @property
    def text(self) -> str:
        """Return the entry as `parse` reads it."""
        port = f":{self.port}" if self.port else ""
        if isinstance(self.host, str):
            return f"{BELOW if self.is_below else ''}{self.host}{port}"
        bits = f"/{self.host.prefixlen}" if self.host.prefixlen < self.host.max_prefixlen else ""
        address = str(self.host.network_address)
        return f"[{address}]{bits}{port}" if self.host.version == 6 and port else f"{address}{bits}{port}"

    def matches(self, host: Host, port: int) -> bool:
        """Return whether the entry is about this host and port. A name is never looked up here."""
        ports = DEFAULT_PORTS if not self.port else (port if self.port == ANY_PORT else int(self.port),)
        if port not in ports:
            return False
        if isinstance(self.host, str):
            return isinstance(host, str) and (host.endswith(f".{self.host}") if self.is_below else host == self.host)
        return not isinstance(host, str) and host in self.host


class HostList:
    """What may be reached by a name or an address: what `allow` has and `deny` has not."""

    def __init__(self, allow: Iterable[str], deny: Iterable[str] = ()) -> None:
        """Read the entries; ValueError for one that is none, or for too many."""
        self.allow = tuple(parse(text) for text in allow)
        self.deny = tuple(parse(text) for text in deny)
        if len(self.allow) + len(self.deny) > ENTRIES_MAX:
            raise ValueError(f"more than {ENTRIES_MAX} hosts")

    def allows(self, host: Union[str, Address], port: int) -> bool:
        """Return whether a host may be reached, in whatever spelling; what is no host may not."""
        try:
            known = parse_host(host) if isinstance(host, str) else host
        except ValueError:
            return False
        return not self.denies(known, port) and any(rule.matches(known, port) for rule in self.allow)

    def denies(self, host: Host, port: int) -> bool:
        """Return whether `deny` has this host, as `parse_host` returns it."""
        return any(rule.matches(host, port) for rule in self.deny)


def parse(text: object) -> Rule:
    """Return the entry that a text stands for; ValueError says what is wrong with it."""
    if not isinstance(text, str) or not text or len(text) > NAME_MAX + 20:
        raise ValueError(f"no host: {_shown(text)}")
    if "://" in text:
        raise ValueError(f"write the host alone, without https:// and path: {_shown(text)}")
    host, port = _split_port(text)
    host, slash, bits = host.partition("/")
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    if host.startswith(BELOW):
        known = parse_host(host[len(BELOW) :])
        if slash or not isinstance(known, str):
            raise ValueError(f"*. needs a name behind it: {_shown(text)}")
        return Rule(known, port, is_below=True)
    if "*" in host:
        raise ValueError(f"* stands only before the first dot, as in *.example.org: {_shown(text)}")
    known = parse_host(host)
    if not isinstance(known, str):
        return Rule(_network(host, known, bits if slash else None, text), port)
    if slash:
        raise ValueError(f"only an address has /BITS, a name has no path: {_shown(text)}")
    return Rule(known, port)


def parse_host(text: str) -> Host:
    """Return a host in its one spelling: a name in lower case and ASCII, or the address that a resolver takes it for.

    ValueError for what is neither. IPv6 stands without brackets, and without a zone.
    """
    # Bounded first: the time of the IDNA codec grows faster than the name.
    if not text or len(text) > NAME_MAX + 1:
        raise ValueError(f"no host: {_shown(text)}")
    if ":" in text:
        return unmapped(_ipv6(text))
    name = (text if text.isascii() else _ascii(text)).lower()
    name = name[:-1] if name.endswith(".") else name
    labels = name.split(".")
    # What ends in a number is an IPv4 address for resolvers and browsers, or nothing.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        return _ipv4(name)
    for label in labels:
        if len(label) > LABEL_MAX or not re.fullmatch(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?", label):
            raise ValueError(f"no host: {_shown(text)}")
    if len(name) > NAME_MAX:
        raise ValueError(f"no host: {_shown(text)}")
    return name


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv6 address that is one for the kernel; others as they are."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _split_port(text: str) -> Tuple[str, str]:
    """Return what is before and after the colon of the port; an IPv6 address has one only behind brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or host.count("[") != host.count("]"):
        return text, ""
    if port != ANY_PORT and not (re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) <= 65535):
        raise ValueError(f"a port is a number from 1 to 65535, or * for any: {_shown(text)}")
    return host, port


def _network(host: str, address: Address, bits: Optional[str], text: str) -> Network:
    longest = 128 if ":" in host else 32
    if bits is None:
        return ipaddress.ip_network(address)
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits) or int(bits) > longest:
        raise ValueError(f"/BITS is a number from 0 to {longest}: {_shown(text)}")
    length = int(bits)
    if longest == 128 and address.version == 4:
        if length < MAPPED.prefixlen:
            raise ValueError(f"write networks of IPv4 addresses as such: {_shown(text)}")
        length -= MAPPED.prefixlen
    network = ipaddress.ip_network((address, length), strict=False)
    if network.network_address != address:
        raise ValueError(f"not where a network begins, write {network}: {_shown(text)}")
    return network


def _ascii(text: str) -> str:
    if any(letter in text.lower() for letter in AMBIGUOUS):
        raise ValueError(f"write this name in its ASCII form, xn--...: {_shown(text)}")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"no host: {_shown(text)}") from None


def _ipv4(text: str) -> ipaddress.IPv4Address:
    """Read a number as inet_aton(3) does: 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1."""
    if not re.fullmatch(r"[0-9a-fx]+(\.[0-9a-fx]+){0,3}", text):
        raise ValueError(f"no address: {_shown(text)}")
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        raise ValueError(f"no address: {_shown(text)}") from None


def _ipv6(text: str) -> ipaddress.IPv6Address:
    if "%" in text:
        raise ValueError(f"an address with a zone is no host: {_shown(text)}")
    try:
        return ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"no host: {_shown(text)}") from None


def _shown(text: object) -> str:
    """Return a text of anybody for a message: short, printable, in quotes."""
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:76]}...{shown[-1]}"
