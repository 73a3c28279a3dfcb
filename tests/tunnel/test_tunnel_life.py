"""A forwarder runs for long, while sessions, addresses, networks and CodeSmith itself change."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

import tests.tunnel.tunnel_lab_agent as lab_agent
from codesmith.errors import AuthenticationFailed
from codesmith.nodes.registry import Node
from codesmith.sdk.client import Client
from codesmith.ssh.transport import NodeTransport
from codesmith.tunnel import control
from codesmith.tunnel.local_endpoint import ensure
from tests.kinds import FABRIC_FIRST
from tests.ssh.remote_logins import add_login
from tests.tunnel.tunnel_talk import connect, is_ready, refusal, state, threads_since, version
from tests.waiting import accepts, eventually, is_running

pytestmark = pytest.mark.lab
SEEN_S, BACK_S = 15, 30


@pytest.fixture
def node(far, node_id, home, tmp_path, carrier):
    """The lab node as an ordinary server, without the lab's configuration."""
    return replace(entry(far, tmp_path), ssh=carrier)


def entry(far, folder, name: str = "") -> Node:
    address = far.address
    with open(folder / "known_hosts", "a") as file:
        file.write(address.known_hosts.read_text())
    return Node(name or far.name, folder / "nodes.yaml", address.host, "root", identity=str(address.identity))


@pytest.mark.usefixtures("inside")
def test_an_idle_endpoint_has_one_thread(far, node_id, tmp_path):
    """The one that reads its SSH connection. Another accepts for all."""
    before = set(threading.enumerate())
    nodes = [entry(far, tmp_path, f"idle{number}") for number in range(3)]
    for node in nodes:
        assert version(ensure(node)) == node_id
    eventually(lambda: [type(thread) for thread in threads_since(before)] == [NodeTransport] * 3)


def end_sessions(far) -> None:
    """End every SSH connection from the node's side."""
    far.run(["pkill", "-f", "^sshd(-session)?: root"], check=False)


@contextmanager
def ssh_agent(folder, key):
    """An ssh agent with one key, for the length of a session."""
    path = folder / f"agent-{os.urandom(2).hex()}"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: accepts(path))  # it listens a moment after its file is there
            subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True)
            yield str(path)
        finally:
            process.terminate()


def test_the_ssh_agent_of_the_last_caller_is_asked(far, node, node_id, tmp_path, monkeypatch):
    key = node.identity
    by_agent = replace(node, identity=None)
    with ssh_agent(tmp_path, key) as first:
        monkeypatch.setenv("SSH_AUTH_SOCK", first)
        path = ensure(by_agent)
    with ssh_agent(tmp_path, key) as second:
        monkeypatch.setenv("SSH_AUTH_SOCK", second)
        assert ensure(by_agent) == path  # ready, so nothing is to be done but to remember
        end_sessions(far)
        eventually(lambda: state().counts["ssh_connections"] == 2 and is_ready(), within_s=BACK_S)
    assert version(path) == node_id


@FABRIC_FIRST
def test_a_call_brings_the_ssh_agent_that_a_stale_endpoint_lacks(far, node, node_id, tmp_path, monkeypatch):
    """The session whose agent the forwarder used is over: a call from another session works without a connect."""
    by_agent = replace(node, identity=None)
    with ssh_agent(tmp_path, node.identity) as first:
        monkeypatch.setenv("SSH_AUTH_SOCK", first)
        path = ensure(by_agent)
    end_sessions(far)
    eventually(lambda: state().kind in ("AuthenticationFailed", "SecretNeeded"), within_s=BACK_S)
    assert f"the ssh agent at {first} does not answer" in state().reason
    with Client(by_agent) as client:
        with pytest.raises(AuthenticationFailed, match=f"the ssh agent at {first} does not answer"):
            client.node.version()  # it has no better one
        with ssh_agent(tmp_path, node.identity) as second:
            monkeypatch.setenv("SSH_AUTH_SOCK", second)
            assert client.node.version().node_id == node_id
            # One that is gone takes the place of none that answers.
            monkeypatch.setenv("SSH_AUTH_SOCK", first)
            assert ensure(by_agent) == path
            end_sessions(far)
            eventually(lambda: state().counts["ssh_connections"] == 3 and is_ready(), within_s=BACK_S)


@FABRIC_FIRST
def test_an_older_forwarder_is_replaced_and_its_endpoints_come_back(far, node, node_id, tmp_path, monkeypatch):
    other = entry(far, tmp_path, "other")
    paths = [ensure(node), ensure(other)]
    old = control.ping()
    with connect(paths[0]) as held:
        held.sendall(b"RAW\nx")
        assert held.recv(1) == b"x"
        with monkeypatch.context() as newer:
            newer.setattr(control, "__version__", "99.1")
            assert ensure(node) == paths[0]
        assert held.recv(1) == b""
    assert not is_running(old)
    eventually(lambda: is_ready("other"), within_s=BACK_S)
    assert [version(path) for path in paths] == [node_id] * 2
    new = control.ping()
    ensure(node)
    assert control.ping() == new


@FABRIC_FIRST
def test_another_host_key_under_a_ready_endpoint_is_refused(far, node):
    path = ensure(node)
    known_hosts = node.known_hosts
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", known_hosts.with_name("other")], check=True)
    known_hosts.write_text(f"{node.host} {known_hosts.with_name('other.pub').read_text()}")
    end_sessions(far)
    eventually(lambda: state().kind == "HostKeyChanged", within_s=SEEN_S)
    assert refusal(path)["kind"] == "HostKeyChanged"


@FABRIC_FIRST
def test_a_machine_that_sleeps_while_its_node_loses_power_finds_it_again(far, node, node_id):
    path = ensure(node)
    forwarder = control.ping()
    os.kill(forwarder, signal.SIGSTOP)
    try:
        far.cut_network()  # so that nobody says goodbye
        far.power_cut()
        far.restore_network()
        far.start()
        lab_agent.wait_for_socket(far)
    finally:
        os.kill(forwarder, signal.SIGCONT)
    eventually(lambda: state().counts["ssh_connections"] > 1 or not is_ready(), within_s=SEEN_S)
    eventually(is_ready, within_s=BACK_S)
    assert version(path) == node_id


@pytest.fixture
def second(boot):
    node = boot("second")
    lab_agent.install(node)
    return node


@pytest.fixture
def six(far):
    """A private IPv6 address of the node."""
    cable, number = far.record.id, int(far.record.id.removeprefix("cslab"))
    near, there = f"fd00:c5:{number:x}::1", f"fd00:c5:{number:x}::2"
    for words in (("dev", cable), ("-n", cable, "dev", "eth0")):
        where, device = words[:-2], words[-2:]
        address = there if where else near
        subprocess.run(["ip", *where, "address", "replace", f"{address}/64", *device, "nodad"], check=True)
    return there


@pytest.fixture(params=["impatient", pytest.param("patient", marks=pytest.mark.long)])
def forwarder(request, home):
    """One that sees outages after about a second, and the real one."""
    if request.param == "impatient":
        request.getfixturevalue("impatient")


@pytest.mark.usefixtures("forwarder")
def test_every_outage_is_seen_in_time_and_ends_by_itself(far, second, six, node_id, home, tmp_path, ssh_config):
    """All at once, because each takes its time: a dead network, a changed address, a power cut, a refused login, a
    hung sshd."""
    alias = f"Host moving\n HostKeyAlias {far.record.host}\n HostName "
    ssh_config.write_text(f"{alias}{far.record.host}\nHost {six}\n HostKeyAlias {far.record.host}\n")
    for login in ("guest", "sleeper"):
        add_login(far, login)
        far.run(["usermod", "--append", "--groups", "codesmith-clients", login])
    nodes = {
        "dead": entry(far, tmp_path, "dead"),
        "moving": replace(entry(far, tmp_path, "moving"), host="moving"),
        "off": entry(second, tmp_path, "off"),
        "refused": replace(entry(far, tmp_path, "refused"), host=six, user="guest"),
        "hung": replace(entry(far, tmp_path, "hung"), host=six, user="sleeper"),
    }
    paths = {name: ensure(node) for name, node in nodes.items()}
    keys = far.root / "home/guest/.ssh/authorized_keys"

    with connect(paths["dead"]) as held:
        held.sendall(b"RAW\nx")
        assert held.recv(1) == b"x"
        far.cut_network()
        second.power_cut()
        far.run(["pkill", "-STOP", "-f", "^sshd: sleeper"])
        with moved_away(keys):
            far.run(["pkill", "-f", "^sshd: guest"])
            eventually(lambda: state("refused").kind == "SecretNeeded", within_s=SEEN_S)  # a password would help
            assert refusal(paths["refused"])["kind"] == "SecretNeeded"
        eventually(lambda: all(was_seen(name) for name in nodes), within_s=SEEN_S)
        assert held.recv(1) == b""  # a call in flight ends
        ssh_config.write_text(f"{alias}{six}\nHost {six}\n HostKeyAlias {far.record.host}\n")
        eventually(lambda: is_ready("moving"), within_s=BACK_S)
        for name in ("dead", "off"):
            seen = state(name)
            assert (seen.state, seen.kind) == ("degraded", "Unreachable")
            assert seen.reason.rpartition(": ")[2]
            assert seen.hint
    far.restore_network()
    second.start()
    lab_agent.wait_for_socket(second)
    eventually(lambda: all(is_ready(name) for name in nodes), within_s=BACK_S)
    assert [version(path) for name, path in paths.items() if name != "off"] == [node_id] * 4
    assert version(paths["off"])


def was_seen(name: str) -> bool:
    return not is_ready(name) or state(name).counts["ssh_connections"] > 1


@contextmanager
def moved_away(file):
    away = file.rename(file.with_name("away"))
    try:
        yield
    finally:
        away.rename(file)
