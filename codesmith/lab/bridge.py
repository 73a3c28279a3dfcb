"""A bridge for the nodes that ask for it, in a network namespace of its own: this machine is not on it.

A node keeps its link to this machine and gets a second one, with an IPv4 and an IPv6 address on the bridge. The nodes
of a bridge find each other by name, in /etc/hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.lab import network
from codesmith.lab.disk import is_mounted
from codesmith.lab.home import CLAIMS, lock, write_atomically
from codesmith.lab.programs import run
from codesmith.lab.record import Record
from codesmith.nodes.lab_home import lab_home

PREFIX = "cslan"
COUNT = network.BRIDGES.num_addresses // 256
DEVICE = "lan0"
# "fd", then "cslab".
IPV6_PREFIX = "fd63:736c:6162"
HAS_IPV6 = Path("/proc/sys/net/ipv6")
MARK = "# bridge of the lab"
BRIDGE_CLAIMS = CLAIMS / "bridges"


def choose_address(bridge: str) -> str:
    """Return a free address on the bridge of this name, which gets its subnet with its first node.

    The caller must hold `claims_lock` until the node's record has the address.
    """
    taken = [record.bridge_host for _, record in members(lab_home(), bridge)]
    bridge_id = id_of(taken[0]) if taken else _free_id()
    _claim(bridge_id, lab_home(), bridge)
    first = int(network.BRIDGES.network_address) + 256 * int(bridge_id.removeprefix(PREFIX))
    for number in range(2, 255):
        host = str(IPv4Address(first + number))
        if host not in taken:
            return host
    raise CodeSmithError(f"no address is left on the bridge {bridge!r} of the lab", hint="inv lab.status")


def id_of(host: str) -> str:
    """Return the id of the bridge that has this address: it names its claim and its namespace."""
    address = IPv4Address(host)
    return f"{PREFIX}{(int(address) - int(network.BRIDGES.network_address)) // 256}"


def ipv6_of(host: str) -> str:
    """Return the IPv6 address of the node that has this IPv4 address on its bridge."""
    number = int(id_of(host).removeprefix(PREFIX))
    return str(IPv6Address(f"{IPV6_PREFIX}:{number:x}::{int(host.rpartition('.')[2]):x}"))


def names_of(record: Record) -> tuple[str, str]:
    """Return the names of a node on its bridge: that of its IPv4 address, and that of its IPv6 address."""
    return f"{record.name}.lab", f"{record.name}.v6.lab"


def members(home: Path, bridge: str) -> list[tuple[Path, Record]]:
    """Return folder and record of each node of a lab home that is on the bridge of this name."""
    return [(folder, record) for folder, record in _bridged(home) if record.bridge == bridge]


def _bridged(home: Path) -> Iterator[tuple[Path, Record]]:
    for file in sorted((home / "nodes").glob("*/record.json")):
        record = Record.read(file.parent)
        if record is not None and record.bridge:
            yield file.parent, record


def _free_id() -> str:
    known = {id_of(record.bridge_host) for _, record in _bridged(lab_home())}
    for number in range(COUNT):
        bridge_id = f"{PREFIX}{number}"
        if bridge_id not in known and not _claim_of(bridge_id).exists() and not network.namespace(bridge_id).exists():
            return bridge_id
    raise CodeSmithError(f"the lab has {COUNT} bridges and no subnet for another one", hint="inv lab.status")


def _claim_of(bridge_id: str) -> Path:
    return BRIDGE_CLAIMS / f"{bridge_id}.json"


def _claim(bridge_id: str, home: Path, bridge: str) -> None:
    BRIDGE_CLAIMS.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(_claim_of(bridge_id), json.dumps({"home": str(home), "bridge": bridge}))


def ensure(folder: Path, record: Record) -> None:
    """Join a node to its bridge, which is made if it is not there, and write the names of the bridge's nodes."""
    bridge_id, home = id_of(record.bridge_host), folder.parent.parent
    with lock(BRIDGE_CLAIMS / "lock"):
        # A restart of this machine loses claims and namespaces; a kept node brings both back.
        _claim(bridge_id, home, record.bridge)
        if not network.namespace(bridge_id).exists():
            run("ip", "netns", "add", bridge_id)
        if not _has_link(bridge_id, "bridge"):
            run("ip", "-n", bridge_id, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", bridge_id, "link", "set", "bridge", "up")
        if not _has_link(record.id, DEVICE):
            peer = ("peer", "name", record.id, "netns", bridge_id)
            run("ip", "-n", record.id, "link", "add", DEVICE, "type", "veth", *peer)
        run("ip", "-n", bridge_id, "link", "set", record.id, "master", "bridge", "up")
        run("ip", "-n", record.id, "address", "replace", f"{record.bridge_host}/24", "dev", DEVICE)
        if HAS_IPV6.exists():
            address = f"{ipv6_of(record.bridge_host)}/64"
            run("ip", "-n", record.id, "-6", "address", "replace", address, "dev", DEVICE, "nodad")
        run("ip", "-n", record.id, "link", "set", DEVICE, "up")
        _write_names(home, record.bridge)


def _has_link(namespace: str, device: str) -> bool:
    return bool(run("ip", "-n", namespace, "link", "show", device, check=False))


def leave(folder: Path, record: Record) -> None:
    """Take a removed node off its bridge, and its names out of the other nodes' /etc/hosts."""
    with lock(BRIDGE_CLAIMS / "lock"):
        run("ip", "-n", id_of(record.bridge_host), "link", "del", record.id, check=False)
        _write_names(folder.parent.parent, record.bridge)


def _write_names(home: Path, bridge: str) -> None:
    there = members(home, bridge)
    lines = []
    for _, record in there:
        name, name_of_ipv6 = names_of(record)
        lines.append(f"{record.bridge_host} {name} {MARK}\n")
        lines += [f"{ipv6_of(record.bridge_host)} {name_of_ipv6} {MARK}\n"] if HAS_IPV6.exists() else []
    for folder, _ in there:
        hosts = folder / "root/etc/hosts"
        # A node that is just being made has none yet, and writes it when it joins.
        if is_mounted(folder / "root") and hosts.exists():
            others = [line for line in hosts.read_text().splitlines(keepends=True) if MARK not in line]
            write_atomically(hosts, "".join(others + lines), mode=0o644)


def sweep() -> None:
    """Remove each bridge that has no node any more; the caller must hold `claims_lock`."""
    for file in sorted(BRIDGE_CLAIMS.glob(f"{PREFIX}*.json")):
        claim = json.loads(file.read_text())
        if not members(Path(claim["home"]), claim["bridge"]):
            if network.namespace(file.stem).exists():
                run("ip", "netns", "del", file.stem, check=False)
            file.unlink()
