"""The guarded transport survives what kills paramiko's own: channels dropped at any moment, and a re-key under load."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import paramiko
import pytest

from codesmith.lab import LabNode
from codesmith.ssh.connection import FABRIC, OPENSSH, Connection
from codesmith.ssh.script import run_script
from codesmith.ssh.transport import NodeTransport
from tests.kinds import FABRIC_FIRST

Open = Callable[..., Connection]
ECHO = "/run/echo.sock"
PROGRAM = f"""
import socket, threading
server = socket.socket(socket.AF_UNIX)
server.bind("{ECHO}")
server.listen(256)
def serve(peer):
    with peer:
        try:
            while data := peer.recv(65536):
                peer.sendall(data)
        except OSError:
            pass
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.fixture(scope="module")
def echo(node: LabNode) -> Iterator[str]:
    """A Unix socket on the node that echoes."""
    node.run(["systemd-run", "--quiet", "--unit=echo", "/usr/bin/python3", "-c", PROGRAM])
    node.run(["/bin/sh", "-c", f"until [ -S {ECHO} ]; do systemctl is-active --quiet echo; done"])
    yield ECHO
    node.run(["systemctl", "stop", "echo"])


def exchange(transport: NodeTransport, path: str, data: bytes) -> bytes:
    """Send all of `data`, half-close, and return what comes back."""
    channel = transport.open_streamlocal(path)
    channel.settimeout(60)
    sender = threading.Thread(target=lambda: (channel.sendall(data), channel.shutdown_write()))
    sender.start()
    try:
        return b"".join(iter(lambda: channel.recv(65536), b""))
    finally:
        sender.join()
        channel.close()


def test_a_unix_socket_is_reached(open_to: Open, echo: str) -> None:
    data = os.urandom(300_000)
    assert exchange(open_to().transport, echo, data) == data


def test_a_missing_socket_is_refused_and_the_connection_lives(open_to: Open, echo: str) -> None:
    transport = open_to().transport
    with pytest.raises(paramiko.ChannelException):
        transport.open_streamlocal("/run/nothing-here.sock")
    assert exchange(transport, echo, b"still here") == b"still here"


def test_other_channels_carry_no_path(open_to: Open, echo: str) -> None:
    connection = open_to()

    def both(number: int) -> bool:
        text = str(number).encode()
        return exchange(connection.transport, echo, text) == text and run_script(connection, "cat", text).stdout == text

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(both, range(12)))


def misbehave(transport: NodeTransport, path: str, seed: int) -> None:
    """Open a channel and leave it in one of the ways that clients leave."""
    dice = random.Random(seed)
    channel = transport.open_streamlocal(path)
    channel.settimeout(30)
    data = dice.randbytes(dice.choice((0, 1, 1000, 100_000)))
    way = dice.randrange(4)
    sender = threading.Thread(target=push, args=(channel, data))
    sender.start()
    with suppress(OSError):
        if way == 0:
            channel.close()
        elif way == 1:
            channel.recv(10)
            channel.close()
        elif way == 2:
            channel.shutdown_write()
        else:
            got = b""
            while len(got) < len(data):
                got += channel.recv(65536)
            assert got == data
    sender.join()
    channel.close()


def push(channel: paramiko.Channel, data: bytes) -> None:
    with suppress(OSError):
        channel.sendall(data)
        channel.shutdown_write()


@FABRIC_FIRST
@pytest.mark.timeout(120)
@pytest.mark.parametrize("channels", [150, pytest.param(600, marks=pytest.mark.long)])
def test_chaos_kills_neither_connection_nor_bytes(open_to: Open, echo: str, channels: int) -> None:
    transport = open_to().transport
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(24) as pool:
        list(pool.map(lambda seed: misbehave(transport, echo, seed), range(channels)))
    assert transport.is_active()
    data = os.urandom(200_000)
    assert exchange(transport, echo, data) == data
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


@FABRIC_FIRST
def test_a_rekey_by_sshd_under_load_loses_no_byte(node: LabNode, open_to: Open, echo: str, carrier: str) -> None:
    node.run(["/bin/sh", "-c", "echo 'RekeyLimit 1M' >/etc/ssh/sshd_config.d/rekey.conf; systemctl restart ssh"])
    try:
        transport = open_to().transport
        first = transport.H
        data = os.urandom(4_000_000)
        with ThreadPoolExecutor(4) as pool:
            back = list(pool.map(lambda _: exchange(transport, echo, data), range(4)))
        assert {hashlib.sha256(one).digest() for one in back} == {hashlib.sha256(data).digest()}
        assert carrier == OPENSSH or first != transport.H, "sshd did not re-key"
    finally:
        node.run(["/bin/sh", "-c", "rm /etc/ssh/sshd_config.d/rekey.conf; systemctl restart ssh"])


@pytest.mark.parametrize("carrier", [FABRIC])
def test_packets_leave_at_once_and_encrypted_by_gcm(open_to: Open) -> None:
    transport = open_to().transport
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert "gcm" in transport.local_cipher


@pytest.mark.parametrize("carrier", [FABRIC])
def test_a_channel_of_a_broken_connection_is_closed_in_silence(open_to: Open) -> None:
    transport = open_to().transport
    channel = transport.open_session()
    transport.sock.shutdown(socket.SHUT_WR)
    channel.close()
    assert channel.closed


def test_closing_takes_no_time(open_to: Open) -> None:
    for _ in range(5):  # the reader is woken at any moment of its work
        connection = open_to()
        run_script(connection, "true")
        connection.transport.close()
        assert not connection.transport.is_alive()
