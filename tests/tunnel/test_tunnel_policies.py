"""Whatever the node's sshd forbids: it works, or the error names the option."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

import tests.tunnel.tunnel_lab_agent as lab_agent
from codesmith.errors import AuthenticationFailed, Unreachable
from codesmith.fleet import parallel
from codesmith.nodes.registry import Node
from codesmith.ssh.connect import connect as connect_by_any
from codesmith.ssh.fabric_connection import connect as connect_ssh
from codesmith.ssh.script import run_script
from codesmith.ssh.target import resolve
from codesmith.tunnel import control, pool
from codesmith.tunnel.local_endpoint import ensure
from tests.kinds import FABRIC_FIRST
from tests.tunnel.tunnel_talk import connect, is_ready, refusal, state, version
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("inside")]
MANY = 40
# What sshd allows on one connection (MaxSessions).
SESSIONS = 10
KEYS = "root/.ssh/authorized_keys"


@pytest.fixture
def node(far, node_id, home, tmp_path, carrier):
    """The lab node as an ordinary server: sshd's own port, the operator's ssh configuration."""
    return replace(entry(far, tmp_path), ssh=carrier)


def entry(far, folder, name: str = "") -> Node:
    address = far.address
    (folder / "known_hosts").write_text(address.known_hosts.read_text())
    return Node(name or far.name, folder / "nodes.yaml", address.host, "root", identity=str(address.identity))


@contextmanager
def key_options(far, options: str):
    """Put options before every key of root."""
    file = far.root / KEYS
    before = file.read_text()
    file.write_text("".join(f"{options} {line}\n" for line in before.splitlines()))
    try:
        yield
    finally:
        file.write_text(before)


def call_at_once(path, times: int) -> list[object]:
    """Call on that many connections at the same time; return the answers and the errors."""
    said: list[object] = []

    def one() -> None:
        try:
            said.append(version(path))
        except (AssertionError, OSError) as error:
            said.append(error)

    callers = [threading.Thread(target=one) for _ in range(times)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return said


@pytest.fixture
def patient(monkeypatch):
    """A call waits for a free session however busy this machine is."""
    monkeypatch.setattr(pool, "FREE_WAIT_S", 100.0)


# What forwarding is allowed


@pytest.mark.parametrize("lines", [("DisableForwarding yes",), ("AllowTcpForwarding no", "PermitOpen none")])
@pytest.mark.parametrize("calls", [SESSIONS + 5, pytest.param(MANY, marks=pytest.mark.long)])
def test_forbidden_forwarding_is_no_obstacle(sshd, patient, node, node_id, lines, calls):
    sshd(*lines)
    path = ensure(node)
    assert state().via == "dial"
    assert call_at_once(path, calls) == [node_id] * calls
    assert state().counts["ssh_connections"] == 1


def test_restricted_key_is_no_obstacle(far, node, node_id):
    with key_options(far, "restrict"):
        path = ensure(node)
        assert state().via == "dial"
        assert version(path) == node_id


def test_an_endpoint_comes_up_by_openssh_where_fabric_does_not(sshd, far, node_id, home, tmp_path):
    sshd("Ciphers chacha20-poly1305@openssh.com")
    assert version(ensure(entry(far, tmp_path))) == node_id
    assert (state().carrier, state().via) == ("openssh", "streamlocal")


@pytest.mark.parametrize("forbid", ["sshd_config", "authorized_keys"])
def test_forced_command_is_told(sshd, far, node, forbid):
    with key_options(far, 'command="echo no entry"' if forbid == "authorized_keys" else ""):
        sshd(*["ForceCommand echo no entry"] * (forbid == "sshd_config"))
        with pytest.raises(Unreachable, match=r"said: no entry.*ForceCommand.*command= in authorized_keys") as caught:
            ensure(node)
    assert caught.value.hint.startswith("ssh ")


def test_too_few_attempts_for_our_keys_are_told(sshd, node, tmp_path):
    sshd("MaxAuthTries 2")
    others = [str(tmp_path / name) for name in ("one", "two", "three")]
    for other in others:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    target = resolve(node)
    with pytest.raises(AuthenticationFailed, match="MaxAuthTries") as caught:
        connect_ssh(replace(target, identities=(*others, *target.identities)))
    assert "IdentitiesOnly" in caught.value.hint


# How many sessions and connections


@FABRIC_FIRST
def test_forbidden_sessions_are_told(sshd, node):
    sshd("MaxSessions 0")
    with pytest.raises(Unreachable, match="MaxSessions") as caught:
        ensure(node)
    assert "maxsessions" in caught.value.hint


def test_one_session_is_enough_where_forwarding_is_allowed(sshd, node, node_id):
    sshd("MaxSessions 1")
    path = ensure(node)
    assert call_at_once(path, MANY) == [node_id] * MANY
    assert (state().via, state().counts["ssh_connections"]) == ("streamlocal", 1)


@FABRIC_FIRST
def test_one_session_carries_one_call_after_the_other_where_it_is_not(sshd, patient, node, node_id, monkeypatch):
    sshd("AllowStreamLocalForwarding no", "MaxSessions 1")
    path = ensure(node)
    assert [version(path) for _ in range(5)] == [node_id] * 5
    assert call_at_once(path, 3) == [node_id] * 3
    with connect(path) as held:
        held.sendall(b"RAW\nx")
        assert held.recv(1) == b"x"
        monkeypatch.setattr(pool, "FREE_WAIT_S", 0.5)
        told = refusal(path)
        assert "MaxSessions" in told["hint"]
        assert is_ready()
    assert version(path) == node_id
    assert state().counts["ssh_connections"] == 1


@pytest.fixture(scope="module")
def strict(boot):
    """A Debian 13: its sshd penalises addresses that misbehave."""
    node = boot("strict", release="trixie")
    lab_agent.install(node)
    return node


@FABRIC_FIRST
def test_one_session_is_enough_for_one_script_after_the_other(strict, home, tmp_path, carrier):
    lab_agent.set_sshd(strict, "MaxSessions 1")
    try:
        with connect_by_any(resolve(replace(entry(strict, tmp_path), ssh=carrier))) as connection:
            assert [run_script(connection, f"exit {number}").status for number in range(10)] == list(range(10))
    finally:
        lab_agent.set_sshd(strict)


@FABRIC_FIRST
@pytest.mark.parametrize("count", [12, pytest.param(MANY, marks=pytest.mark.long)])
def test_many_nodes_at_once_pass_the_default_limit_of_new_connections(strict, home, tmp_path, carrier, count):
    nodes = [replace(entry(strict, tmp_path, f"n{number}"), ssh=carrier) for number in range(count)]
    assert problems(nodes) == []
    ready_again(strict, nodes)


@FABRIC_FIRST
@pytest.mark.parametrize("count", [6, pytest.param(16, marks=pytest.mark.long)])
def test_many_nodes_at_once_pass_it_through_one_gateway(strict, home, tmp_path, ssh_config, carrier, count):
    strict.run(["systemctl", "restart", "ssh"])  # it forgets the penalties of the tests before
    ssh_config.write_text(
        f"Host behind\n HostName 127.0.0.1\n HostKeyAlias {strict.record.host}\n ProxyJump root@{strict.record.host}\n"
    )
    nodes = [replace(entry(strict, tmp_path, f"n{number}"), host="behind", ssh=carrier) for number in range(count)]
    assert problems(nodes) == []
    ready_again(strict, nodes)


def problems(nodes: list[Node]) -> list[str]:
    return [one.error.problem for one in parallel.each(nodes, ensure) if one.error]


def ready_again(far, nodes: list[Node]) -> None:
    """End all SSH sessions at once; every endpoint comes back by itself."""
    # Not those before their login, of endpoints that come back already: sshd would count crashes, and refuse us.
    far.run(["pkill", "-f", r"^sshd-session: root($|@)"])
    eventually(lambda: all(one.counts["ssh_connections"] > 1 for one in control.status()), within_s=30)
    eventually(lambda: all(one.state == "ready" for one in control.status()), within_s=30)
    assert len(control.status()) == len(nodes)


def test_penalty_is_told(strict, home, tmp_path):
    strict.run(["systemctl", "restart", "ssh"])
    lab_agent.set_sshd(strict, "PerSourcePenalties authfail:60")
    try:
        good = resolve(entry(strict, tmp_path))
        with pytest.raises(AuthenticationFailed):
            connect_ssh(replace(good, user="nobody"))
        told = eventually(lambda: turned_away(good))
        assert "PerSourcePenalties" in told.problem
        assert "journalctl" in told.hint
    finally:
        lab_agent.set_sshd(strict)
        strict.run(["systemctl", "restart", "ssh"])
    connect_ssh(good).close()


def turned_away(target) -> Unreachable | None:
    """Connect; return the error of an sshd that accepts nobody now. It penalises only after a session has ended."""
    try:
        connect_ssh(target, timeout_s=1).close()
    except Unreachable as error:
        if "no answer" not in error.problem:  # not one that is only slow
            return error
    return None
