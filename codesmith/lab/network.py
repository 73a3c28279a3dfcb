"""A network namespace per node, joined to this machine by a cable of its own: a veth pair and a /30.

The subnets come from 198.18.0.0/15, which is set aside for benchmarks of networks and routed nowhere.
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
SPARED = ipaddress.ip_network("198.18.200.0/24")
PREFIX = "cslab"
COUNT = RANGE.num_addresses // 4


def subnet(node_id: str) -> ipaddress.IPv4Network:
    """Return the /30 of a node: its gateway (this machine) is the first host, the node the second."""
    number = int(node_id.removeprefix(PREFIX))
    return ipaddress.IPv4Network((int(RANGE.network_address) + 4 * number, 30))


def gateway_and_host(node_id: str) -> tuple[str, str]:
    """Return this machine's and the node's address on the node's cable."""
    first, second = subnet(node_id).hosts()
    return str(first), str(second)


def candidates(name: str) -> Iterator[str]:
    """Yield ids whose subnet is free here, beginning with the one this name gets as a rule."""
    used = _addresses_here()
    start = zlib.crc32(name.encode())
    for step in range(COUNT):
        node_id = f"{PREFIX}{(start + step) % COUNT}"
        place = subnet(node_id)
        if not place.overlaps(SPARED) and not any(address in place for address in used):
            yield node_id


def _addresses_here() -> list[ipaddress.IPv4Address]:
    links = json.loads(run("ip", "-json", "-4", "address", "show") or "[]")
    return [ipaddress.IPv4Address(info["local"]) for link in links for info in link.get("addr_info", [])]


def namespace(node_id: str) -> Path:
    """Return the file that holds the node's network namespace."""
    return Path("/run/netns") / node_id


def ensure_cable(node_id: str) -> None:
    """Make the cable of a node that brings a namespace of its own user namespace along: nspawn takes the end there."""
    run("ip", "link", "del", node_id, check=False)
    run("ip", "link", "add", node_id, "type", "veth", "peer", "name", far_end(node_id))
    run("ip", "address", "replace", f"{gateway_and_host(node_id)[0]}/30", "dev", node_id)
    run("ip", "link", "set", node_id, "up")


def far_end(node_id: str) -> str:
    """Return the name of the node's end of such a cable."""
    return f"{node_id}n"


def ensure(node_id: str) -> None:
    """Make the node's namespace and cable, and connect it."""
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
    """Let the node's packets vanish: no FIN, no reset, nothing, as when a cable is pulled far away."""
    run("ip", "-n", node_id, "route", "replace", "blackhole", f"{gateway_and_host(node_id)[0]}/32")


def restore(node_id: str) -> None:
    """Undo `cut`; nothing happens if the network was not cut."""
    with contextlib.suppress(ProgramFailed):
        run("ip", "-n", node_id, "route", "del", "blackhole", f"{gateway_and_host(node_id)[0]}/32")


def is_cut(node_id: str) -> bool:
    """Whether the node's packets vanish."""
    return bool(run("ip", "-n", node_id, "route", "show", "type", "blackhole").strip())


def remove(node_id: str) -> None:
    """Remove cable and namespace; nothing happens when they are gone."""
    if Path("/sys/class/net", node_id).exists():
        run("ip", "link", "del", node_id, check=False)
    if namespace(node_id).exists():
        run("ip", "netns", "del", node_id, check=False)
