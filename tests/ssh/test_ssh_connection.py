"""A failure to connect has a clear error, and gateways are verified like nodes."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from codesmith.errors import AuthenticationFailed, HostKeyUnknown, Unreachable
from codesmith.lab import LabNode
from codesmith.ssh import connect as connecting
from codesmith.ssh import deadline, heartbeat, ssh_agent
from codesmith.ssh.connection import FABRIC, Connection
from codesmith.ssh.fabric_connection import connect, fetch_host_key
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target
from tests.kinds import FABRIC_FIRST
from tests.waiting import accepts

Open = Callable[..., Connection]


def new_key(path: Path, *options: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", *(options or ("-N", "")), "-f", str(path)], check=True)
    return str(path)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_no_sshd_is_named(free_port: int) -> None:
    with pytest.raises(Unreachable, match=rf"node web .*127.0.0.1 refuses connections on port {free_port}"):
        connect(Target("web", "127.0.0.1", free_port))


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70])
def test_no_address_is_named(host: str) -> None:
    with pytest.raises(Unreachable, match=rf"no address is known for '{host}'"):
        connect(Target("web", host))


@pytest.mark.slow
def test_a_name_server_that_is_silent_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.wait(60) and [])
    try:
        with pytest.raises(Unreachable, match=r"'web.example.org' could not be looked up within 1 s"):
            connect(Target("web", "web.example.org"), timeout_s=1)
    finally:
        answers.set()


@pytest.mark.slow
def test_silence_ends_at_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(Unreachable, match=r"does not speak SSH|no answer"):
            connect(Target("web", "127.0.0.1", silent.getsockname()[1]), timeout_s=1)


@pytest.mark.slow
@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
@pytest.mark.parametrize("work", [connect, fetch_host_key])
def test_a_clock_that_is_set_back_makes_no_limit_longer(
    monkeypatch: pytest.MonkeyPatch, work: Callable[..., object], greeting: bytes
) -> None:
    """paramiko measures by the wall clock: set back an hour, an endpoint would wait an hour for a hung sshd."""
    monkeypatch.setattr(deadline, "GRACE_S", 0.2)
    now, is_back = time.time, threading.Event()
    monkeypatch.setattr(time, "time", lambda: now() - (20 if is_back.is_set() else 0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []

        def greet() -> None:
            accepted.append(silent.accept()[0])
            accepted[0].sendall(greeting)

        answering, back = threading.Thread(target=greet), threading.Timer(0.2, is_back.set)
        answering.start()
        back.start()
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer within 0.5 s"):
            work(Target("web", "127.0.0.1", silent.getsockname()[1]), timeout_s=0.5)
        assert time.monotonic() - begun < 15
        answering.join()
        back.join()
        accepted[0].close()


@pytest.mark.parametrize("work", [connect, fetch_host_key])
def test_what_is_said_before_a_login_is_told(work: Callable[..., object]) -> None:
    """A device in front of the node, or a server of another kind, ends the connection with a reason."""
    reason = b"no entry\x1b[31m: maintenance"
    payload = b"\x01" + (11).to_bytes(4, "big") + len(reason).to_bytes(4, "big") + reason + bytes(4)
    padding = 8 + -(len(payload) + 5) % 8
    packet = (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line, line.makefile("rb") as reader:
                line.sendall(b"SSH-2.0-Device\r\n" + packet)
                reader.read()

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(Unreachable, match=r"ended the connection; it said: no entry \[31m: maintenance") as caught:
            work(Target("web", "127.0.0.1", server.getsockname()[1]))
        answering.join()
    assert caught.value.problem.isprintable()


def test_a_wrong_key_is_an_authentication_error_that_names_it(target: Target, tmp_path: Path) -> None:
    identity = new_key(tmp_path / "id_wrong")
    with pytest.raises(AuthenticationFailed, match=rf"sshd refused root; tried: {identity}"):
        connect(replace(target, identities=(identity,)))


def test_a_key_that_needs_a_passphrase_is_named_with_ssh_add(target: Target, tmp_path: Path) -> None:
    identity = new_key(tmp_path / "id_locked", "-N", "passphrase")
    with pytest.raises(AuthenticationFailed, match=r"a passphrase is needed") as error:
        connect(replace(target, identities=(identity,)))
    assert error.value.hint == f"ssh-add {identity}"


def test_a_key_is_used_from_the_agent(
    node: LabNode, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = new_key(tmp_path / "id_agent")
    keys = node.root / "root/.ssh/authorized_keys"
    keys.write_text(keys.read_text() + Path(f"{identity}.pub").read_text())
    agent_socket = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent_socket], stdout=subprocess.DEVNULL) as agent:
        try:
            while not accepts(agent_socket):
                assert agent.poll() is None
            monkeypatch.setenv("SSH_AUTH_SOCK", agent_socket)
            subprocess.run(["ssh-add", "-q", identity], check=True, stderr=subprocess.DEVNULL)
            os.rename(identity, f"{identity}.gone")
            connect(replace(target, identities=(), identities_only=False)).close()
            connect(replace(target, identities=(identity,), identities_only=True)).close()
            with pytest.raises(AuthenticationFailed, match=r"tried: no key"):
                connect(replace(target, identities=(), identities_only=True))
        finally:
            agent.terminate()


@pytest.mark.parametrize(
    ("confirm", "words"),
    [("exit 1", r"no signature of agent: caf.: key cannot be used"), ("exec sleep 5", r"agent at .* does not answer")],
)
def test_an_agent_that_does_not_sign_is_named(
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    confirm: str,
    words: str,
) -> None:
    """Nobody confirms, or touches the key. Its comment is in Latin-1."""
    monkeypatch.setattr(ssh_agent, "SIGN_WITHIN_S", 0.5)
    identity = new_key(tmp_path / "id_agent", "-N", "", "-C", os.fsdecode(b"caf\xe9"))
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\n{confirm}\n")
    ask.chmod(0o755)
    where = {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    environment = {**os.environ, **where, "DISPLAY": ":0"}
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", where["SSH_AUTH_SOCK"]], env=environment, stdout=subprocess.DEVNULL
    ) as agent:
        try:
            while not accepts(where["SSH_AUTH_SOCK"]):
                assert agent.poll() is None
            subprocess.run(["ssh-add", "-q", "-c", identity], env=environment, check=True, stderr=subprocess.DEVNULL)
            monkeypatch.setenv("SSH_AUTH_SOCK", where["SSH_AUTH_SOCK"])
            with pytest.raises(AuthenticationFailed, match=words) as caught:
                connect(replace(target, identities=(), identities_only=False))
            assert caught.value.hint == f"SSH_AUTH_SOCK={where['SSH_AUTH_SOCK']} ssh-add -l"
        finally:
            agent.terminate()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("ssh_config")  # the gateway's own entry: there is none
def test_a_gateway_is_used_and_verified(target: Target, carrier: str) -> None:
    jump = f"{target.user}@{target.host}:{target.port}"
    through = replace(target, carrier=carrier, host="127.0.0.1", host_key_alias=target.host, proxy_jump=jump)
    connection = connecting.connect(through)
    try:
        done = run_script(connection, 'echo "$SSH_CONNECTION"; cat', b"data")
        assert done.stdout.endswith(b"data")
    finally:
        connection.close()
    with pytest.raises(HostKeyUnknown, match=rf"node {target.name} via {target.host}") as caught:
        connecting.connect(replace(through, known_hosts=(Path("/nonexistent"),)))
    # node.trust knows no gateways.
    assert caught.value.hint == f"compare the fingerprint, then: ssh {target.user}@{target.host} true"


def test_a_proxy_command_is_used_and_ended(target: Target, carrier: str) -> None:
    command = f'{sys.executable} -c "{RELAY}" {target.host}'
    connection = connecting.connect(
        replace(target, carrier=carrier, proxy_command=command, host="behind", host_key_alias=target.host)
    )
    try:
        assert run_script(connection, "cat", b"x" * 1_000_000).stdout == b"x" * 1_000_000
    finally:
        connection.close()


RELAY = (
    "import os, select, socket, sys; s = socket.create_connection((sys.argv[1], 22)); f = s.fileno()\n"
    "while True:\n"
    " for r in select.select([0, f], [], [])[0]:\n"
    "  d = os.read(r, 65536)\n"
    "  if not d: sys.exit()\n"
    "  o = f if r == 0 else 1\n"
    "  while d: d = d[os.write(o, d):]\n"
)


def test_a_connection_that_dies_is_unreachable(node: LabNode, open_to: Open) -> None:
    connection = open_to()
    with pytest.raises(Unreachable, match=r"connection was lost|closed"):
        run_script(connection, "pkill -9 -f '^sshd(-session)?: root'; exec sleep 5", timeout_s=10)


@pytest.mark.parametrize("carrier", [FABRIC])
def test_what_sshd_says_when_it_ends_a_connection_is_told(
    open_to: Open, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data for a channel that does not exist is a protocol error, for which sshd disconnects with a reason."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.2)
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    connection = open_to()
    connection.on_lost(reasons.put)
    channel = connection.transport.open_session()
    channel.exec_command("cat")
    channel.remote_chanid = 99
    channel.sendall(b"data")
    connection.transport.join(10)
    with pytest.raises(Unreachable, match=r"connection was lost: its sshd said: .*nonexistent channel 99"):
        run_script(connection, "true")
    assert "nonexistent channel 99" in reasons.get(timeout=10)
    assert "nonexistent channel 99" in connection.why_lost


@pytest.mark.usefixtures("quick_alive")
def test_a_network_that_dies_under_a_script_ends_it(
    node: LabNode, open_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No packet reports it: without a heartbeat only the script's own limit would hold, an hour for packages."""
    assert heartbeat.HEARTBEAT_S + heartbeat.REPLY_S < 15
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(heartbeat, "REPLY_S", 0.5)
    connection = open_to()
    try:
        with pytest.raises(Unreachable, match=r"the connection was lost: no answer within"):
            run_script(connection, "echo begun; sleep 60", timeout_s=60, on_line=lambda _: node.cut_network())
    finally:
        node.restore_network()


@pytest.mark.parametrize("carrier", [FABRIC])
def test_a_network_that_dies_under_uploads_ends_the_connection(
    node: LabNode, open_to: Open, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that send block then, with the locks that a question would need."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(heartbeat, "REPLY_S", 0.5)
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    connection = open_to()
    connection.on_lost(reasons.put)
    channels = [connection.transport.open_session() for _ in range(8)]
    for channel in channels:
        channel.exec_command("cat > /dev/null")
    node.cut_network()
    uploads = [threading.Thread(target=upload, args=[channel]) for channel in channels]
    try:
        for thread in uploads:
            thread.start()
        assert "no answer within" in reasons.get(timeout=15)
        for thread in uploads:
            thread.join()
    finally:
        node.restore_network()


def upload(channel: paramiko.Channel) -> None:
    with pytest.raises((OSError, EOFError)):
        channel.sendall(bytes(8 << 20))


@pytest.mark.usefixtures("ssh_config")
def test_a_network_that_dies_before_a_gateway_is_the_reason(
    node: LabNode, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(heartbeat, "REPLY_S", 0.5)
    jump = f"{target.user}@{target.host}:{target.port}"
    connection = connect(replace(target, host="127.0.0.1", host_key_alias=target.host, proxy_jump=jump))
    connection.transport.sock.settimeout(60)  # so that the one to the gateway surely notices first
    try:
        with pytest.raises(Unreachable, match=r"the connection was lost: no answer within"):
            run_script(connection, "echo begun; sleep 60", timeout_s=60, on_line=lambda _: node.cut_network())
    finally:
        node.restore_network()
        connection.close()


@FABRIC_FIRST
def test_a_long_transfer_on_a_slow_way_is_no_dead_network(
    target: Target, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a heartbeat queues behind the data; behind a ProxyCommand the kernel knows no TCP state."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(heartbeat, "REPLY_S", 0.5)
    slow = RELAY.replace("os.read(r, 65536)", "os.read(r, 16384); time.sleep(0.2 * (r == f and len(d) == 16384))")
    command = f'{sys.executable} -c "import time; {slow}" {target.host}'
    connection = connecting.connect(
        replace(target, carrier=carrier, proxy_command=command, host="behind", host_key_alias=target.host)
    )
    try:
        assert run_script(connection, "head -c 200000 /dev/urandom").status == 0
    finally:
        connection.close()
