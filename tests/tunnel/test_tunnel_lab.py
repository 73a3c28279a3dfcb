"""The forwarder and real sshd on real nodes: outages, their errors and the recovery."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

import tests.tunnel.tunnel_lab_agent as lab_agent
from codesmith.errors import CallLost, NotPrepared, Unreachable, WrongNode
from codesmith.http import client
from codesmith.nodes.registry import Node
from codesmith.sdk.transport import Transport
from codesmith.tunnel import control, identity, local_endpoint
from codesmith.tunnel.local_endpoint import endpoint_path, ensure
from tests.kinds import FABRIC_FIRST, some_of
from tests.tunnel.tunnel_talk import connect, echo, is_ready, post, read_all, refusal, state, stopped, version
from tests.waiting import eventually, is_running

pytestmark = pytest.mark.lab
CHAOS_WORKERS = 24
# Longer than either side computes between two sends of the same round trip.
RTT_MS = 100
CHAOS = {
    "plain": (240, ()),
    "re-key": (240, ("RekeyLimit 1M",)),
    "dial": (72, ("AllowStreamLocalForwarding no", "MaxSessions 100")),
}
LONG_CHAOS = {f"{kind}-long": (5 * connections, lines) for kind, (connections, lines) in CHAOS.items()}


@pytest.fixture
def node(far, node_id, home, tmp_path, carrier):
    return Node(name=far.name, registry=tmp_path / "nodes.yaml", lab=far.release, ssh=carrier)


@pytest.fixture
def path(node):
    """The path of a ready endpoint."""
    return ensure(node)


def test_ready_means_the_right_node_answered(path, node, node_id, carrier):
    assert version(path) == node_id
    seen = state()
    assert seen.carrier == carrier
    assert (seen.state, seen.node_id, seen.via, seen.counts["ssh_connections"]) == ("ready", node_id, "streamlocal", 1)
    assert seen.host == f"lab:{node.lab}"
    assert ensure(node) == path == endpoint_path(node)
    assert state().counts["ssh_connections"] == 1


@FABRIC_FIRST
def test_agent_of_another_node_is_refused(far, node, node_id):
    lab_agent.answer_as(far, "someone-else")
    try:
        with pytest.raises(WrongNode, match="someone-else"):
            ensure(node)
        assert not endpoint_path(node).exists()
    finally:
        lab_agent.answer_as(far, node_id)
    assert version(ensure(node)) == node_id


@FABRIC_FIRST
def test_name_that_leads_elsewhere_than_before_is_refused(node):
    identity.remember(node, "another")
    with pytest.raises(WrongNode, match="another node than before"):
        ensure(node)
    identity.forget(node)
    ensure(node)


def test_node_without_agent_is_not_prepared(far, node):
    far.run(["mv", "/etc/codesmith", "/etc/codesmith.away"])
    try:
        with pytest.raises(NotPrepared) as caught:
            ensure(node)
        assert caught.value.hint == f"inv node.prepare --node {node.name}"
    finally:
        far.run(["mv", "/etc/codesmith.away", "/etc/codesmith"])


@FABRIC_FIRST
def test_login_outside_the_clients_group_is_told_so(far, node, carrier):
    stranger = f"stranger-{carrier}"
    far.add_login(stranger)
    with pytest.raises(NotPrepared, match=r"stranger.*codesmith-clients"):
        ensure(dataclasses.replace(node, user=stranger))
    far.run(["usermod", "--append", "--groups", "codesmith-clients", stranger])
    assert version(ensure(dataclasses.replace(node, user=stranger)))


def test_stopped_agent_is_told_and_comes_back(far, impatient, path, node_id):
    far.run(["systemctl", "stop", "codesmith-agent"])
    eventually(lambda: state().state == "degraded")
    assert state().kind == "Unreachable"
    told = refusal(path)
    assert told["kind"] == "Unreachable"
    assert "stopped" in told["problem"]
    far.run(["systemctl", "start", "codesmith-agent"])
    eventually(is_ready)
    assert version(path) == node_id
    assert state().counts["ssh_connections"] == 1


def test_restarted_agent_is_called_at_once(far, path, node_id):
    far.run(["systemctl", "restart", "codesmith-agent"])
    lab_agent.wait_for_socket(far)
    assert version(path) == node_id


def test_first_connect_to_a_stopped_agent_names_it(far, node):
    far.run(["systemctl", "stop", "codesmith-agent"])
    try:
        with pytest.raises(Unreachable, match=r"agent on .* is stopped"):
            ensure(node)
    finally:
        far.run(["systemctl", "start", "codesmith-agent"])
        lab_agent.wait_for_socket(far)


@FABRIC_FIRST
def test_reboot_needs_no_command(far, path, node_id):
    far.reboot()
    lab_agent.wait_for_socket(far)
    eventually(is_ready, within_s=30)
    assert version(path) == node_id


def test_killed_forwarder_is_started_by_the_next_call(path, node, node_id):
    pid = control.ping()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid))
    with pytest.raises(ConnectionRefusedError):
        version(path)
    assert version(ensure(node)) == node_id


@pytest.mark.parametrize("changes", [False, True])
def test_a_call_does_not_wait_for_a_forwarder_that_hangs(path, node, node_id, monkeypatch, changes):
    assert client.SILENCE_S + local_endpoint.CHECK_S < 15
    monkeypatch.setattr(client, "SILENCE_S", 0.3)
    monkeypatch.setattr(local_endpoint, "CHECK_S", 0.3)
    pid = control.ping()
    with stopped(pid):
        with pytest.raises(CallLost, match="the forwarder gave no answer") as caught:
            call(path, node, changes)
        command = caught.value.hint.rpartition("twice: ")[2].partition(";")[0]
        subprocess.run(command, shell=True, check=True)
        eventually(lambda: not is_running(pid))
    assert call(path, node, changes)["node_id"] == node_id


def call(path, node, changes):
    with contextlib.closing(
        Transport("web1", path, lambda: ensure(node), local_endpoint.ensure_responsive)
    ) as transport:
        return transport.call("node.version", {}, changes=changes)


@FABRIC_FIRST
def test_disconnect_removes_the_socket_and_ends_the_last_forwarder(path, node):
    pid = control.ping()
    assert control.disconnect(node) is True
    assert not path.exists()
    eventually(lambda: not is_running(pid))
    assert control.disconnect(node) is False


@FABRIC_FIRST
def test_changed_spec_replaces_the_endpoint(far, path, node, node_id):
    with far.relay(rtt_ms=0) as (host, port):
        moved = dataclasses.replace(node, host=host, port=port)
        (Path(node.registry).parent / "known_hosts").write_text(pin(far, host, port))
        assert version(ensure(moved)) == node_id
        assert endpoint_path(moved) != path
        assert not path.exists()
        assert state().key == moved.key


def pin(far, host, port) -> str:
    kind, key = (far.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    return f"[{host}]:{port} {kind} {key}\n"


@FABRIC_FIRST
def test_new_connection_on_the_spare_costs_one_round_trip(far, node):
    """Counted, as a busy machine makes everything late. A heartbeat may add to one of the three."""
    relay = far.relay(rtt_ms=RTT_MS)
    with relay as (host, port):
        node.registry.parent.joinpath("known_hosts").write_text(pin(far, host, port))
        path = ensure(dataclasses.replace(node, host=host, port=port))
        assert min(round_trips(relay, lambda: version(path)) for _ in range(3)) == 1
        assert state().counts["spares_used"] == 3
        control.stop()


def round_trips(relay, call) -> int:
    """Return how many round trips a call waits for, once nothing else is under way."""
    seen = None
    while seen != (seen := relay.traffic()):
        time.sleep(3 * RTT_MS / 1000)
    call()
    return relay.traffic().round_trips - seen.round_trips


def test_forbidden_stream_forwarding_falls_back_to_dial(sshd, node, node_id):
    sshd("AllowStreamLocalForwarding no")
    path = ensure(node)
    assert state().via == "dial"
    assert [version(path) for _ in range(5)] == [node_id] * 5
    payload = random.Random(2).randbytes(2_000_000)
    assert echo(path, payload) == payload + b"END"
    assert state().counts["ssh_connections"] == 1


def test_stopped_agent_is_told_through_dial_too(sshd, far, impatient, node, node_id):
    sshd("AllowStreamLocalForwarding no", "MaxSessions 2")
    path = ensure(node)
    far.run(["systemctl", "stop", "codesmith-agent"])
    eventually(lambda: "is stopped" in state().reason)
    assert "is stopped" in refusal(path)["problem"]
    far.run(["systemctl", "start", "codesmith-agent"])
    eventually(is_ready)
    assert version(path) == node_id


@FABRIC_FIRST
def test_bulk_both_ways_survives_rekeying(sshd, node):
    sshd("RekeyLimit 4M")
    path = ensure(node)
    payload = random.Random(3).randbytes(30_000_000)
    assert echo(path, payload) == payload + b"END"
    assert post(path, "/bytes/20000000") == (200, b"x" * 20_000_000)
    assert state().counts["ssh_connections"] == 1


def misbehave(path, rng: random.Random, wrong: list[str]) -> None:
    """Open one connection and use, half-close or drop it; note every wrong byte."""
    manner = rng.randrange(6)
    payload = rng.randbytes(rng.choice([0, 1, 1000, 50_000]))
    try:
        if manner == 0:
            connect(path).close()
        elif manner == 1:  # drop in the middle of an answer
            with connect(path) as sock:
                sock.sendall(b"POST /bytes/500000 HTTP/1.1\r\n\r\n")
                sock.recv(1000)
        elif manner == 2:  # send and leave without reading
            with connect(path) as sock:
                sock.sendall(b"RAW\n" + payload)
        elif manner == 3:
            if echo(path, payload) != payload + b"END":
                wrong.append("echo")
        elif manner == 4:
            with connect(path) as sock:
                sock.sendall(b"POST /bytes/7 HTTP/1.1\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                if not read_all(sock).endswith(b"\r\n\r\nxxxxxxx"):
                    wrong.append("half-close")
        elif post(path, "/bytes/30000") != (200, b"x" * 30_000):
            wrong.append("post")
    except OSError as error:
        wrong.append(repr(error))


@FABRIC_FIRST
@pytest.mark.parametrize(
    ("connections", "lines"),
    [
        *some_of(CHAOS, "plain", "dial"),
        *(pytest.param(*case, id=kind, marks=pytest.mark.long) for kind, case in LONG_CHAOS.items()),
    ],
)
def test_chaos_leaves_connection_bytes_and_process_whole(sshd, node, node_id, connections, lines):
    sshd(*lines)
    path = ensure(node)
    version(path)
    pid = control.ping()
    eventually(lambda: state().counts["open"] == 0)
    files, threads = resources(pid)
    wrong: list[str] = []
    workers = [threading.Thread(target=many, args=(path, seed, connections, wrong)) for seed in range(CHAOS_WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    seen = state()
    assert seen.counts["served"] >= connections
    assert (seen.state, seen.counts["ssh_connections"], seen.counts["refused"]) == ("ready", 1, 0)
    eventually(lambda: state().counts["open"] == 0, "connections left")
    eventually(lambda: max(now - then for now, then in zip(resources(pid), (files, threads), strict=True)) <= 2)
    assert version(path) == node_id


def many(path, seed: int, connections: int, wrong: list[str]) -> None:
    rng = random.Random(seed)
    for _ in range(connections // CHAOS_WORKERS):
        misbehave(path, rng, wrong)


def resources(pid: int) -> tuple[int, int]:
    """Return how many descriptors and threads the process has."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
