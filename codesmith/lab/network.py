"""A network namespace per node, connected to this machine by a veth pair with a /30 of its own.

The subnets come from 198.18.0.0/15, which is reserved for network benchmarks and routed nowhere.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from codesmith.lab.programs import ProgramFailed, run

RANGE = ipaddress.ip_network("198.18.0.0/15")
EXCLUDED = ipaddress.ip_network("198.18.200.0/24")
# For nodes that share a bridge (bridge.py), a /24 for each bridge.
BRIDGES = ipaddress.IPv4Network("198.19.192.0/18")
PREFIX = "cslab"
COUNT = RANGE.num_addresses // 4


def subnet(node_id: str) -> ipaddress.IPv4Network:
    """Return the /30 of a node: the first host is its gateway (this machine), the second the node."""
    number = int(node_id.removeprefix(PREFIX))
    return ipaddress.IPv4Network((int(RANGE.network_address) + 4 * number, 30))


def gateway_and_host(node_id: str) -> tuple[str, str]:
    """Return the addresses of this machine and of the node in the node's subnet."""
    first, second = subnet(node_id).hosts()
    return str(first), str(second)


def candidates(name: str) -> Iterator[str]:
    """Yield ids whose subnet is free on this machine, first the one derived from the name."""
    used = _addresses_here()
    start = zlib.crc32(name.encode())
    for step in range(COUNT):
        node_id = f"{PREFIX}{(start + step) % COUNT}"
        place = subnet(node_id)
        is_free = not any(address in place for address in used)
        if is_free and not place.overlaps(EXCLUDED) and not place.overlaps(BRIDGES):
            yield node_id


def _addresses_here() -> list[ipaddress.IPv4Address]:
    links = json.loads(run("ip", "-json", "-4", "address", "show") or "[]")
    return [ipaddress.IPv4Address(info["local"]) for link in links for info in link.get("addr_info", [])]


def namespace(node_id: str) -> Path:
    """Return the path of the node's network namespace."""
    return Path("/run/netns") / node_id


def ensure_veth(node_id: str) -> None:
    """Make the veth pair of a node in a user namespace; the supervisor moves its end into that."""
    run("ip", "link", "del", node_id, check=False)
    run("ip", "link", "add", node_id, "type", "veth", "peer", "name", node_end(node_id))
    run("ip", "address", "replace", f"{gateway_and_host(node_id)[0]}/30", "dev", node_id)
    run("ip", "link", "set", node_id, "up")


def ensure_tap(node_id: str) -> None:
    """Make the network device of a virtual machine."""
    if not Path("/sys/class/net", node_id).exists():
        run("ip", "tuntap", "add", "dev", node_id, "mode", "tap")
    run("ip", "address", "replace", f"{gateway_and_host(node_id)[0]}/30", "dev", node_id)
    run("ip", "link", "set", node_id, "up")


def node_end(node_id: str) -> str:
    """Return the name of the node's end of such a veth pair."""
    return f"{node_id}n"


def ensure(node_id: str) -> None:
    """Make the node's namespace and veth pair, and configure both ends."""
    if not namespace(node_id).exists():
        run("ip", "netns", "add", node_id)
    if not Path("/sys/class/net", node_id).exists():
        run("ip", "link", "add", node_id, "type", "veth", "peer", "name", "eth0", "netns", node_id)
    gateway, host = gateway_and_host(node_id)
    run("ip", "address", "replace", f"{gateway}/30", "dev", node_id)
    run("ip", "link", "set", node_id, "up")
    run("ip", "-n", node_id, "link", "set", "lo", "up")
    run("ip", "-n", node_id, "address", "replace", f"{host}/30", "dev", "eth0")
    run("ip", "-n", node_id, "link", "set", "eth0", "up")


def cut(node_id: str) -> None:
    """Drop the node's packets silently, without FIN or reset, like a cable that is pulled far away."""
    run("ip", "-n", node_id, "route", "replace", "blackhole", f"{gateway_and_host(node_id)[0]}/32")


def restore(node_id: str) -> None:
    """Undo `cut`; nothing happens if the network is not cut."""
    with contextlib.suppress(ProgramFailed):
        run("ip", "-n", node_id, "route", "del", "blackhole", f"{gateway_and_host(node_id)[0]}/32")


def is_cut(node_id: str) -> bool:
    """Tell whether the network of the node is cut."""
    return bool(run("ip", "-n", node_id, "route", "show", "type", "blackhole").strip())


def remove(node_id: str) -> None:
    """Remove veth pair and namespace; nothing happens if they are gone."""
    if Path("/sys/class/net", node_id).exists():
        run("ip", "link", "del", node_id, check=False)
    if namespace(node_id).exists():
        run("ip", "netns", "del", node_id, check=False)
