"""Addresses that nobody reaches, whatever is listed; the node's own are read from the kernel of this machine."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Iterator

import pytest

from agent.shared.addresses import is_never_reached, is_own, is_private

address = ipaddress.ip_address


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "168.63.129.16",
     "192.0.0.192", "100.100.100.200", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
     "::", "::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
     "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254",
     "64:ff9b:1::a", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2001:0:7f00:1::1", "2001:0:808:808:0:0:80ff:fffe",
     "2a00::5efe:127.0.0.1",
     "2a00::200:5efe:127.0.0.1"],
)  # fmt: skip
def test_loopback_link_local_metadata_and_their_forms_are_never_reached(text: str) -> None:
    assert is_never_reached(address(text), lambda _: False)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "10.0.0.1", "2a00:1450::1", "64:ff9b::8.8.8.8", "2002:808:808::1", "fd00::7"]
)
def test_others_are_not_refused_here(text: str) -> None:
    assert not is_never_reached(address(text), lambda _: False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.1.2.3", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.1.1", True), ("100.64.0.1", True),
     ("100.128.0.1", False), ("fd12::1", True), ("fc00::1", True), ("::ffff:10.0.0.1", True),
     ("64:ff9b::10.0.0.1", True), ("2002:0a00:1::1", True), ("8.8.8.8", False), ("2a00::1", False),
     ("198.18.0.1", False)],
)  # fmt: skip
def test_private_addresses_are_known_in_every_form(text: str, expected: bool) -> None:
    assert is_private(address(text)) is expected


def test_own_addresses_are_refused_in_every_form() -> None:
    own = address("203.0.113.7")
    for text in ("203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::203.0.113.7", "2002:cb00:7107::1"):
        assert is_never_reached(address(text), lambda one: one == own), text


@pytest.fixture
def new_addresses() -> Iterator[list[str]]:
    """Addresses and a range that the kernel delivers here from now on."""
    there = [("address", "198.18.200.77/32"), ("address", "2001:db8:200::77/128"), ("route", "198.18.200.128/28")]
    for kind, text in there:
        words = ["ip", "address", "add", text, "dev", "lo"]
        if kind == "route":
            words = ["ip", "route", "add", "local", text, "dev", "lo"]
        subprocess.run(words, check=True)
    yield ["198.18.200.77", "2001:db8:200::77", "198.18.200.130"]
    for kind, text in there:
        words = ["ip", "address", "del", text, "dev", "lo"]
        if kind == "route":
            words = ["ip", "route", "del", "local", text, "dev", "lo"]
        subprocess.run(words, check=True)


@pytest.mark.lab
def test_own_addresses_are_those_that_the_kernel_has_now(new_addresses: list[str]) -> None:
    assert [text for text in new_addresses if not is_own(address(text))] == []


def test_an_address_of_this_machine_is_its_own_and_another_is_not() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
        try:
            outwards.connect(("198.51.100.7", 9))
        except OSError:
            pytest.skip("this machine has no route")
        assert is_own(address(outwards.getsockname()[0]))
    assert is_own(address("127.0.0.1"))
    assert is_own(address("::1"))
    assert not is_own(address("198.51.100.7"))
    assert not is_own(address("2a00::7"))
