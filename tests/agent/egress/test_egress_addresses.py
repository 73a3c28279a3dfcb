"""Names and addresses: resolved once, judged all, dialled as judged; and what was denied is kept."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.egress.denied import KEPT_MAX, DeniedHosts
from agent.egress.dialling import resolve
from agent.egress.policy import Denied, PolicyFile
from agent.egress.server import WRITES_MAX
from agent.shared.host_lists import parse_host
from tests.agent.egress.conftest import Peer, Proxy, exactly
from tests.waiting import eventually


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with the real rule of addresses, for names of the test."""
    yield Proxy(tmp_path_factory.mktemp("real"))


FORBIDDEN = [
    "127.0.0.1", "0.0.0.0", "169.254.169.254", "168.63.129.16", "100.100.100.200", "255.255.255.255", "224.0.0.1",
    "::", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1", "fd00:ec2::254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1", "2001:0:7f00:1::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_nobody_reaches_forbidden_addresses_even_by_a_listed_name(real: Proxy, address: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    for mode in ("list", "open"):
        # What is listed in an open policy, the node's administrator has opened to the operator's clones.
        listed = ("listed.example:*", f"{shown}:*", "0.0.0.0/0:*", "[::]/0:*") if mode == "list" else ()
        real.allow(*listed, mode=mode)
        policy = PolicyFile(str(real.folder))
        for host in ("listed.example", address):
            with pytest.raises(Denied) as denied:
                policy.check(parse_host(host), 443, parse_host(address))  # type: ignore[arg-type]
            assert denied.value.hint == ""  # nothing would help


@pytest.mark.parametrize("mode", ["list", "open"])
def test_every_spelling_of_loopback_is_refused(proxy: Proxy, echoing: Peer, mode: str) -> None:
    proxy.never.add(parse_host("127.0.0.1"))  # type: ignore[arg-type]
    proxy.allow(*(("127.0.0.0/8:*", "web.example:*") if mode == "list" else ()), mode=mode)
    spellings = ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[::ffff:127.0.0.1]",
                 "web.example", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]"]  # fmt: skip
    for spelling in spellings:
        assert proxy.tunnel(f"{spelling}:{echoing.port}")[0] == 403, spelling
        assert proxy.socks_name(spelling.strip("[]"), echoing.port)[0] == 2, spelling
        assert b" 403 " in proxy.get(f"http://{spelling}:{echoing.port}/"), spelling
    assert echoing.connections == []


def test_the_nodes_own_address_is_refused(real: Proxy) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
        try:
            outwards.connect(("198.51.100.7", 9))
        except OSError:
            pytest.skip("this machine has no route")
        own = outwards.getsockname()[0]
    real.allow(mode="open")
    policy = PolicyFile(str(real.folder))
    with pytest.raises(Denied, match="no workspace reaches"):
        policy.check(parse_host(own), 22, parse_host(own))  # type: ignore[arg-type]
    policy.check(parse_host("198.51.100.7"), 22, parse_host("198.51.100.7"))  # type: ignore[arg-type]


def test_private_addresses_have_to_be_listed_as_addresses_or_the_policy_is_open(real: Proxy) -> None:
    def is_allowed(address: str, *hosts: str, mode: str = "list") -> bool:
        real.allow("corp.example", *hosts, mode=mode)
        try:
            PolicyFile(str(real.folder)).check("corp.example", 443, parse_host(address))  # type: ignore[arg-type]
        except Denied as denied:
            assert denied.hint == f"inv sandbox.update demo --allow {address}"
            return False
        return True

    for address in ("10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"):
        assert not is_allowed(address), address
        assert not is_allowed(address, "*.corp.example"), address
        assert is_allowed(address, address), address
        assert is_allowed(address, mode="open"), address
    assert is_allowed("10.1.2.3", "10.0.0.0/8")
    assert is_allowed("198.51.100.7")


@pytest.mark.slow
def test_a_denied_network_is_denied_by_every_name(proxy: Proxy, echoing: Peer) -> None:
    for mode in ("list", "open"):
        proxy.allow("web.example:*", deny=("127.0.0.0/8:*",), mode=mode)
        assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 403
        assert proxy.tunnel(f"127.0.0.1:{echoing.port}")[0] == 403
    assert echoing.connections == []


def test_an_open_policy_reaches_what_is_not_denied(proxy: Proxy, echoing: Peer) -> None:
    proxy.allow(deny=("bad.example:*",), mode="open")
    proxy.names["bad.example"] = ["127.0.0.1"]
    assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 200
    assert proxy.tunnel(f"bad.example:{echoing.port}")[0] == 403


@pytest.mark.slow
def test_a_name_is_resolved_once_and_what_was_judged_is_dialled(proxy: Proxy, echoing: Peer) -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.66"], ["127.0.0.66", "127.0.0.1"]])
    proxy.names = _Changing(answers)
    proxy.allow("web.example:*")
    target = f"web.example:{echoing.port}"
    assert proxy.tunnel(target)[0] == 200
    assert len(proxy.resolved) == 1
    assert proxy.tunnel(target)[0] == 403  # the same name, now at a forbidden address
    status, connection = proxy.tunnel(target)  # one of each: the forbidden one is never dialled
    assert status == 200
    assert len(proxy.resolved) == 3
    connection.sendall(b"hello")
    assert exactly(connection, 5) == b"hello"


class _Changing(dict[str, list[str]]):
    """A name whose addresses change with each question."""

    def __init__(self, answers: Iterator[list[str]]) -> None:
        super().__init__({"web.example": []})
        self._answers = answers

    def __getitem__(self, name: str) -> list[str]:
        return next(self._answers)


def test_the_next_address_is_tried_when_one_fails(proxy: Proxy, echoing: Peer) -> None:
    proxy.names["web.example"] = ["::1", "127.0.0.99", "127.0.0.1"]
    proxy.allow("web.example:*")
    assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 200


@pytest.mark.parametrize("answer", [None, [], ["no address"]])
def test_a_name_that_does_not_resolve_is_no_denied_host(proxy: Proxy, answer: list[str] | None) -> None:
    if answer is not None:
        proxy.names["gone.example"] = answer
    proxy.allow("gone.example")
    assert proxy.get("http://gone.example/").startswith(b"HTTP/1.1 502 ")
    assert proxy.tunnel("gone.example:443")[0] == 502
    assert proxy.socks_name("gone.example", 443)[0] == 4
    proxy.get("http://denied.example/")
    assert [one["host"] for one in eventually(proxy.denied)] == ["denied.example"]


@pytest.fixture
def slow(proxy: Proxy) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The name slow.example: an event when it was asked for, and one that lets it be answered."""
    asked, gate = threading.Event(), threading.Event()

    def answer(name: str) -> list[str]:
        if name == "slow.example":
            asked.set()
            gate.wait(20)
        return proxy.resolve(name)

    proxy.names["slow.example"] = ["127.0.0.1"]
    proxy.answer = answer
    yield asked, gate
    gate.set()


def test_a_name_that_takes_long_holds_up_nobody_else(
    proxy: Proxy, echoing: Peer, slow: tuple[threading.Event, threading.Event]
) -> None:
    asked, gate = slow
    proxy.allow("slow.example:*", "web.example:*")
    waiting = proxy.connect()
    waiting.sendall(f"CONNECT slow.example:{echoing.port} HTTP/1.1\r\n\r\n".encode())
    assert asked.wait(20)
    assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 200
    gate.set()
    assert exactly(waiting, 12) == b"HTTP/1.1 200"


def test_a_policy_that_changes_while_a_name_is_resolved_is_obeyed(
    proxy: Proxy, echoing: Peer, slow: tuple[threading.Event, threading.Event]
) -> None:
    asked, gate = slow
    proxy.allow("slow.example:*")
    waiting = proxy.connect()
    waiting.sendall(f"CONNECT slow.example:{echoing.port} HTTP/1.1\r\n\r\n".encode())
    assert asked.wait(20)
    proxy.allow("web.example:*")
    gate.set()
    assert exactly(waiting, 12) == b"HTTP/1.1 403"
    assert echoing.connections == []


def test_when_the_kernel_cannot_be_asked_nothing_is_dialled(proxy: Proxy, echoing: Peer) -> None:
    proxy.never = _Unknown()
    proxy.allow("web.example:*")
    assert proxy.tunnel(f"web.example:{echoing.port}")[0] == 503
    assert proxy.socks(1, bytes((127, 0, 0, 1)), echoing.port)[0] == 1
    assert echoing.connections == []


class _Unknown(set[Any]):
    """Addresses of which nobody knows whether they are the node's own."""

    def __contains__(self, address: object) -> bool:
        raise PermissionError(1, "not permitted")


def test_the_nodes_resolver_is_used() -> None:
    assert "127.0.0.1" in resolve("localhost")
    with pytest.raises(OSError, match=r".") as refusal:
        resolve("does-not-exist.invalid")
    assert isinstance(refusal.value, socket.gaierror)


@pytest.mark.slow
def test_a_denied_host_is_written_before_it_is_refused(proxy: Proxy) -> None:
    """Several in a row too: a command asks for more than one."""
    for number in range(WRITES_MAX):
        proxy.tunnel(f"denied{number}.example:443")
        assert proxy.denied()[-1]["host"] == f"denied{number}.example"
    for _ in range(2 * WRITES_MAX):
        proxy.tunnel("again.example:443")
    eventually(lambda: proxy.denied()[-1]["count"] == 2 * WRITES_MAX)


@pytest.mark.slow
def test_denied_hosts_are_counted_bounded_printable_and_read_back(proxy: Proxy) -> None:
    for number in range(KEPT_MAX + 20):
        proxy.tunnel(f"h{number}.example:443")
    for _ in range(2):
        proxy.tunnel("h50.example:443")
    for strange in ("a\x1b[2Jb", "b\xe4d", "%0a", "a" * 300, "<b>", 'a"b'):
        proxy.ask(f"CONNECT {strange}:443 HTTP/1.1\r\n\r\n")
    records = eventually(lambda: proxy.denied() if proxy.denied()[-1:] and proxy.denied()[-1]["count"] == 3 else None)
    assert len(records) == KEPT_MAX
    assert records[0]["host"] == "h20.example"
    assert (records[-1]["host"], records[-1]["port"]) == ("h50.example", 443)
    assert all(len(one["host"]) <= 253 and one["host"].isprintable() for one in records)
    assert DeniedHosts(str(proxy.folder)).records() == records
    (proxy.folder / "denied.json").write_text("{")
    assert DeniedHosts(str(proxy.folder)).records() == []
