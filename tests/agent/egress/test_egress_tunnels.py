"""CONNECT and SOCKS5: bytes both ways, ends passed on, slow sides, many connections, a policy that changes."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import threading

import pytest

from agent.egress.server import Limits
from tests.agent.egress.conftest import Peer, Proxy, echo, exactly
from tests.waiting import eventually

PIECES, PIECE = 200, bytes(range(256)) * 512


@pytest.fixture
def target(proxy: Proxy, echoing: Peer) -> str:
    proxy.allow("web.example:*")
    return f"web.example:{echoing.port}"


def ends(connection: socket.socket) -> bool:
    """Return whether the other side has ended this connection; wait for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_tunnel_carries_both_ways_and_passes_on_a_half_close(proxy: Proxy, target: str) -> None:
    status, connection = proxy.tunnel(target)
    assert status == 200
    digest = hashlib.sha256()

    def send() -> None:
        for _ in range(PIECES):
            connection.sendall(PIECE)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    while data := connection.recv(65536):
        digest.update(data)
    sender.join()
    assert digest.digest() == hashlib.sha256(PIECE * PIECES).digest()


def test_what_is_sent_with_the_request_is_not_lost(proxy: Proxy, target: str) -> None:
    connection = proxy.connect()
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\nearly".encode())
    connection.shutdown(socket.SHUT_WR)
    assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"\r\n\r\nearly")


def test_socks5_by_name_and_by_address(proxy: Proxy, echoing: Peer, target: str) -> None:
    code, connection = proxy.socks_name("WEB.example.", echoing.port)
    assert code == 0
    connection.sendall(b"hello")
    assert exactly(connection, 5) == b"hello"
    proxy.allow("127.0.0.1:*")
    assert proxy.socks(1, bytes((127, 0, 0, 1)), echoing.port)[0] == 0
    mapped = socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")
    assert proxy.socks(4, mapped, echoing.port)[0] == 0
    assert proxy.socks_name("0x7f.1", echoing.port)[0] == 0


@pytest.mark.slow
def test_socks5_refuses_with_its_replies(proxy: Proxy, echoing: Peer, target: str) -> None:
    assert proxy.socks_name("other.example", 443)[0] == 2
    assert proxy.socks(1, bytes((127, 0, 0, 1)), echoing.port)[0] == 2
    assert proxy.socks(4, socket.inet_pton(socket.AF_INET6, "::1"), echoing.port)[0] == 2
    assert proxy.socks(3, b"\x03a\0b", 443)[0] == 1
    assert proxy.socks(9, b"", 443)[0] == 8
    assert proxy.socks_name("web.example", 0)[0] == 1
    for command in (2, 3, 7):  # bind, udp associate, none
        name = b"\x0bweb.example"
        assert proxy.socks(3, name, echoing.port, command)[0] == 7
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert proxy.socks_name("web.example", port)[0] == 5
    connection = proxy.connect()
    connection.sendall(b"\x05\x01\x02")  # a password is asked of nobody
    assert exactly(connection, 2) == b"\x05\xff"
    assert ends(connection)


@pytest.mark.parametrize(
    "start", [b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x16\x03\x01\x02\x00", b"\0", b"\xff\xff", b"  GET"]
)
def test_what_is_neither_protocol_gets_no_answer(proxy: Proxy, start: bytes) -> None:
    assert proxy.ask(start) == b""


def test_connect_goes_to_listed_ports_alone(proxy: Proxy, echoing: Peer) -> None:
    proxy.allow("web.example", "web.example:22")
    for port in (25, 8080, echoing.port, 6379):
        assert proxy.tunnel(f"web.example:{port}")[0] == 403
    for port in (80, 443, 22):
        assert proxy.tunnel(f"web.example:{port}")[0] in (200, 502)
    proxy.allow(f"web.example:{echoing.port}")
    assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 200


def test_a_side_that_does_not_read_holds_up_its_own_tunnel_alone(proxy: Proxy, target: str) -> None:
    _, stuck = proxy.tunnel(target)
    stuck.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):  # everything on the way is full
        while True:
            sent += stuck.send(PIECE)
            assert sent < 200_000_000
    _, other = proxy.tunnel(target)
    other.sendall(b"hello")
    assert exactly(other, 5) == b"hello"
    stuck.settimeout(20)
    assert len(exactly(stuck, sent)) == sent


def test_an_end_without_manners_ends_the_other_side(proxy: Proxy, target: str, echoing: Peer) -> None:
    _, connection = proxy.tunnel(target)
    connection.sendall(b"a")
    exactly(connection, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()  # RST
    assert eventually(lambda: echoing.connections[0].fileno() == -1)


@pytest.mark.slow
def test_a_policy_that_changes_ends_the_tunnels_that_it_forbids(proxy: Proxy, echoing: Peer, target: str) -> None:
    proxy.names["keep.example"] = ["127.0.0.1"]
    proxy.allow("web.example:*", "keep.example:*")
    _, ending = proxy.tunnel(target)
    _, staying = proxy.tunnel(f"keep.example:{echoing.port}")
    by_socks = proxy.socks_name("web.example", echoing.port)[1]
    proxy.allow("keep.example:*")
    assert proxy.tunnel(target)[0] == 403  # at once
    assert ends(ending)
    assert ends(by_socks)
    staying.sendall(b"hello")
    assert exactly(staying, 5) == b"hello"
    proxy.allow("keep.example:*", deny=("keep.example:*",))
    assert ends(staying)
    proxy.allow("web.example:*")
    assert proxy.tunnel(target)[0] == 200


def test_an_address_that_becomes_the_nodes_own_is_refused_from_then_on(proxy: Proxy, target: str) -> None:
    assert proxy.tunnel(target)[0] == 200
    proxy.never.add(ipaddress.ip_address("127.0.0.1"))
    assert proxy.tunnel(target)[0] == 403


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"workspace": "demo"}', "[" * 100_000, "\xff",
     '{"workspace": "demo", "mode": "all", "allow": ["web.example:*"], "deny": [], "hint": ""}',
     '{"workspace": "demo", "mode": "list", "allow": "web.example:*", "deny": [], "hint": ""}',
     '{"workspace": "demo", "mode": "list", "allow": ["web.example:*"], "deny": ["no host"], "hint": ""}',
     '{"workspace": "demo", "mode": "list", "allow": ["web.example:*", 7], "deny": [], "hint": ""}',
     '{"workspace": "demo\\n", "mode": "list", "allow": ["web.example:*"], "deny": [], "hint": ""}'],
)  # fmt: skip
def test_a_damaged_policy_refuses_everything_and_ends_what_there_was(proxy: Proxy, target: str, text: str) -> None:
    _, connection = proxy.tunnel(target)
    proxy.write_policy(text)
    assert proxy.tunnel(target)[0] == 403
    assert ends(connection)
    proxy.allow("web.example:*")
    assert proxy.tunnel(target)[0] == 200


def test_without_a_policy_everything_is_refused(proxy: Proxy, target: str) -> None:
    (proxy.folder / "policy.json").unlink()
    assert b"cannot be read" in proxy.ask(f"CONNECT {target} HTTP/1.1\r\n\r\n")
    assert proxy.denied() == []


@pytest.fixture
def impatient(tmp_path_factory: pytest.TempPathFactory) -> object:
    proxy = Proxy(tmp_path_factory.mktemp("impatient"))
    proxy.limits = Limits(connections=3, request_s=0.3, dial_s=0.5, quiet_s=0.3)
    return proxy


def test_the_limits_are_those_that_were_promised() -> None:
    assert Limits() == Limits(connections=1000, request_s=30.0, dial_s=15.0, quiet_s=600.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [b"", b"G", b"GET http://web.example/ HTTP/1.1\r\n", b"\x05", b"\x05\x01\x00\x05\x01\x00\x03"]
)
def test_a_client_that_is_slow_with_its_request_is_let_go(impatient: Proxy, start: bytes) -> None:
    with impatient.running():
        answer = impatient.ask(start)
    assert answer[:12] in (b"", b"HTTP/1.1 408", b"\x05\x00")


@pytest.mark.slow
def test_a_tunnel_that_is_half_ended_and_quiet_ends_but_a_whole_one_stays(impatient: Proxy) -> None:
    impatient.allow("web.example:*")
    with impatient.running(), socket.create_server(("127.0.0.1", 0)) as silent:
        _, whole = impatient.tunnel(f"web.example:{silent.getsockname()[1]}")
        _, half = impatient.tunnel(f"web.example:{silent.getsockname()[1]}")
        accepted = [silent.accept()[0] for _ in range(2)]
        half.shutdown(socket.SHUT_WR)
        assert ends(half)
        accepted[0].sendall(b"a")
        assert exactly(whole, 1) == b"a"
        for connection in (whole, half, *accepted):
            connection.close()


def test_clients_above_the_limit_wait_for_their_turn(impatient: Proxy, echoing: Peer) -> None:
    impatient.allow("web.example:*")
    with impatient.running():
        held = [impatient.tunnel(f"web.example:{echoing.port}")[1] for _ in range(3)]
        waiting = impatient.connect()
        waiting.sendall(f"CONNECT web.example:{echoing.port} HTTP/1.1\r\n\r\n".encode())
        waiting.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        held[0].close()
        waiting.settimeout(20)
        assert exactly(waiting, 12) == b"HTTP/1.1 200"
        for connection in (*held, waiting):
            connection.close()


@pytest.mark.slow
def test_a_thousand_connections_at_once_and_one_more_afterwards(proxy: Proxy) -> None:
    accepting = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = accepting.getsockname()[1]
    proxy.allow("web.example:*")
    threads = threading.active_count()
    tunnels = [proxy.tunnel(f"web.example:{port}")[1] for _ in range(1000)]
    ends_ = [accepting.accept()[0] for _ in tunnels]
    for number, end in enumerate(ends_):
        end.sendall(number.to_bytes(2, "big"))
    assert len({exactly(connection, 2) for connection in tunnels}) == 1000
    assert threading.active_count() < threads + 20
    for connection in (*tunnels, *ends_):
        connection.close()
    _, another = proxy.tunnel(f"web.example:{port}")
    accepting.close()
    another.close()


def test_ipv6_is_carried(proxy: Proxy) -> None:
    six = Peer(echo, "::1")
    proxy.names["six.example"] = ["::1"]
    proxy.allow("six.example:*", "[::1]:*")
    for code, connection in (proxy.socks_name("six.example", six.port), proxy.tunnel(f"[::1]:{six.port}")):
        assert code in (0, 200)
        connection.sendall(b"hello")
        assert exactly(connection, 5) == b"hello"
        connection.close()
    six.close()
