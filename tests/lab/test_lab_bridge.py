"""Nodes that share a bridge: they reach each other by name, and nothing of the bridge outlives them."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from codesmith.errors import BadArgument, CodeSmithError, Unsupported
from codesmith.lab import bridge, network, teardown
from codesmith.lab.lab import Lab
from codesmith.lab.node import LabNode
from codesmith.lab.record import Record, Run
from codesmith.nodes.lab_home import node_dir
from tests.lab.lab_traces import Traces, eventually

pytestmark = pytest.mark.lab

GREETING = "import socket, sys; print(socket.create_connection((sys.argv[1], 22), timeout=5).recv(64).decode())"
BOOT_AND_WAIT = """
import sys
from codesmith.lab import Lab
print(Lab().up(sys.argv[1], bridge=sys.argv[2]).bridge_host, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def pair(boot, new_name) -> tuple[LabNode, LabNode]:
    """Two nodes on one bridge."""
    name = new_name("bridge")
    return boot("git", bridge=name), boot("web", release="trixie", bridge=name)


def greets(node: LabNode, host: str) -> bool:
    return node.run(["python3", "-c", GREETING, host], check=False).stdout.startswith("SSH-")


def names_on(node: LabNode) -> list[str]:
    lines = (node.root / "etc/hosts").read_text().splitlines()
    return [line.split()[1] for line in lines if bridge.MARK in line]


def left_of(bridge_id: str) -> list[Path]:
    """Return what exists of a bridge now."""
    places = [network.namespace(bridge_id), bridge.BRIDGE_CLAIMS / f"{bridge_id}.json"]
    return [place for place in places if place.exists()]


def test_nodes_of_a_bridge_reach_each_other_by_name_in_both_directions_and_protocols(pair):
    git, _ = pair
    assert (git.bridge_names[0], git.bridge_names[1]) == (f"{git.name}.lab", f"{git.name}.v6.lab")
    for one, other in (pair, pair[::-1]):
        assert all(greets(one, host) for host in (*other.bridge_names, other.bridge_host, other.bridge_ipv6))
        assert all(greets(one, name) for name in one.bridge_names)
    assert ipaddress.ip_address(git.bridge_ipv6) in ipaddress.ip_network("fd00::/8")


def test_addresses_on_a_bridge_are_of_the_labs_range_and_no_nodes_link_can_have_them(pair, new_name):
    for node in pair:
        address = ipaddress.IPv4Address(node.bridge_host)
        assert address in network.BRIDGES and network.BRIDGES.subnet_of(network.RANGE)
        assert not network.BRIDGES.overlaps(network.EXCLUDED)
    candidates = [network.subnet(node_id) for node_id in network.candidates(new_name())]
    assert candidates and not any(place.overlaps(network.BRIDGES) for place in candidates)


def test_this_machine_and_nodes_of_other_bridges_are_not_on_it(pair, boot, new_name):
    git, _ = pair
    shown = subprocess.run(["ip", "route", "get", git.bridge_host], capture_output=True, text=True, check=False).stdout
    assert bridge.DEVICE not in shown and git.record.id not in shown
    stranger, alone = boot("stranger", bridge=new_name("bridge")), boot("alone")
    assert bridge.id_of(stranger.bridge_host) != bridge.id_of(git.bridge_host)
    for node in (stranger, alone):
        assert not greets(node, git.bridge_host)
        assert not greets(node, git.bridge_ipv6)
        assert not greets(node, git.bridge_names[0])
    assert (alone.bridge_host, alone.bridge_ipv6) == ("", "")


@pytest.mark.long
def test_a_node_is_on_its_bridge_after_a_reboot_and_a_power_cut(pair):
    git, web = pair
    with (web.root / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 mine\n")
    web.reboot()
    assert greets(web, git.bridge_names[0]) and greets(git, web.bridge_names[0])
    web.power_cut()
    web.start()
    assert greets(web, git.bridge_names[0]) and greets(git, web.bridge_names[1])
    assert "127.0.0.1 mine\n" in (web.root / "etc/hosts").read_text()
    assert web.failed_units == []


def test_a_cut_network_leaves_the_bridge(pair):
    git, web = pair
    web.cut_network()
    try:
        assert greets(git, web.bridge_names[0])
    finally:
        web.restore_network()


def test_the_bridge_goes_with_its_last_node_and_names_with_each(lab, boot, new_name):
    name = new_name("bridge")
    first, second = boot("first", bridge=name), boot("second", bridge=name)
    bridge_id = bridge.id_of(first.bridge_host)
    assert len(left_of(bridge_id)) == 2, "the test does not see what it is to miss"
    assert names_on(second) == [*first.bridge_names, *second.bridge_names]
    lab.down(first.name)
    assert names_on(second) == list(second.bridge_names)
    third = boot("third", bridge=name)
    assert third.bridge_host == first.bridge_host, "the address of a node that is gone is free again"
    assert greets(second, third.bridge_names[0])
    traces = Traces.of(third.folder)
    lab.down(third.name)
    assert len(left_of(bridge_id)) == 2
    lab.down(second.name)
    assert (left_of(bridge_id), traces.left()) == ([], [])


@pytest.mark.long
def test_a_bridge_goes_with_its_killed_owner(script, new_name):
    name = new_name("bridge")
    owners = [script(BOOT_AND_WAIT, new_name("orphan"), name) for _ in range(2)]
    bridge_id, other = (bridge.id_of(owner.line()) for owner in owners)
    assert bridge_id == other, "two processes, one bridge"
    for owner in owners:
        assert left_of(bridge_id)
        owner.kill()
    eventually(lambda: not left_of(bridge_id), "the bridge outlived its nodes")


def test_a_bridge_whose_owner_and_supervisor_are_killed_is_reaped(script, new_name):
    node_name, name = new_name("orphan"), new_name("bridge")
    owner = script(BOOT_AND_WAIT, node_name, name)
    bridge_id = bridge.id_of(owner.line())
    run = Run.read(node_dir(node_name))
    run.supervisor.send(9)
    assert run.supervisor.wait(10)
    owner.kill()
    assert left_of(bridge_id)
    teardown.reap()
    assert left_of(bridge_id) == []


def test_a_claim_whose_node_was_never_recorded_is_swept(new_name):
    with teardown.claims_lock():
        bridge_id = bridge.id_of(bridge.choose_address(new_name("bridge")))
    assert left_of(bridge_id)
    teardown.reap()
    assert left_of(bridge_id) == []


def test_a_node_keeps_its_bridge(lab, pair, new_name):
    git, _ = pair
    assert lab.up(git.name).bridge_host == git.bridge_host
    with pytest.raises(CodeSmithError, match=f"is on the bridge '{git.record.bridge}', not on 'other'"):
        lab.up(git.name, bridge="other")


def test_who_cannot_be_on_a_bridge_is_refused_before_anything_is_made(lab, new_name):
    name = new_name()
    with pytest.raises(Unsupported, match="cannot be on a bridge"):
        lab.up(name, uids=65536, bridge="other")
    with pytest.raises(Unsupported, match="cannot be on a bridge"):
        lab.up(name, "trixie-vm", bridge="other")
    with pytest.raises(BadArgument, match=r"'\.\./x' cannot be the name"):
        lab.up(name, bridge="../x")
    assert not node_dir(name).exists()


@pytest.mark.long
def test_the_addresses_of_a_bridge_and_the_bridges_can_run_out(monkeypatch, tmp_path, new_name):
    monkeypatch.setenv("CODESMITH_LAB_HOME", str(tmp_path))
    name, kept = new_name("bridge"), Lab(keep=True)
    with teardown.claims_lock():
        for number in range(253):
            address = bridge.choose_address(name)
            folder = tmp_path / "nodes" / f"node{number}"
            folder.mkdir(parents=True)
            Record(folder.name, "bookworm", "", "cslab0", "", "", kept.owner, 0, name, address).write(folder)
        assert address.rpartition(".")[2] == "254"
        with pytest.raises(CodeSmithError, match="no address is left on the bridge"):
            bridge.choose_address(name)
    for folder in (tmp_path / "nodes").iterdir():
        (folder / "record.json").unlink()
    teardown.reap()
    assert left_of(bridge.id_of(address)) == []
