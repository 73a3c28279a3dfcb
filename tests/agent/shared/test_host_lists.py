"""Entries of host lists, their one spelling, and what a list allows."""

from __future__ import annotations

import ipaddress

import pytest

from agent.shared.host_lists import ENTRIES_MAX, HostList, parse, parse_host


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("pypi.org", "pypi.org"),
        ("PyPI.Org.", "pypi.org"),
        ("*.GitHub.com:443", "*.github.com:443"),
        ("git.corp:*", "git.corp:*"),
        ("my_host", "my_host"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example:22", "xn--bcher-kva.example:22"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/32:5432", "10.1.2.3:5432"),
        ("10.0.0.0/8:*", "10.0.0.0/8:*"),
        ("0x7f.1:80", "127.0.0.1:80"),
        ("2130706433", "127.0.0.1"),
        ("2001:DB8::", "2001:db8::"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:8443", "[2001:db8::7]:8443"),
        ("[2001:db8::]/32:443", "[2001:db8::]/32:443"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("[::ffff:10.0.0.7]:22", "10.0.0.7:22"),
        ("::/0", "::/0"),
    ],
)
def test_an_entry_has_one_spelling(text: str, normal: str) -> None:
    assert parse(text).text == normal
    assert parse(normal) == parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no host"), (None, "no host"), (7, "no host"), ("a" * 300, "no host"), ("a..b", "no host"),
        ("-a", "no host"),
        ("a b", "no host"), ("a\n", "no host"), (" a", "no host"), ("a\0", "no host"), ("user@host", "no host"),
        ("a" * 64 + ".org", "no host"), (".", "no host"), (".org", "no host"), ("a,b", "no host"),
        ("https://pypi.org", "host alone"), ("pypi.org/simple", "only an address"), ("host:0", "port"),
        ("host:65536", "port"),
        ("host:", "port"), ("host:80:80", "no host"), ("host:080", "port"), ("host:http", "port"), ("host:-1", "port"),
        ("*", r"\* stands"), ("a.*.b", r"\* stands"), ("*a.b", r"\* stands"), ("*.*.b", "no host"),
        ("*.10.0.0.1", "needs a name"),
        ("*.", "no host"), ("10.0.0.1/8", "write 10.0.0.0/8"), ("10.0.0.0/33", "from 0 to 32"), ("10.0.0.0/", "/BITS"),
        ("10.0.0.0/08", "/BITS"), ("1.2.3.4.5", "no address"), ("256.1.1.1", "no address"), ("a.1", "no address"),
        ("08.1.1.1", "no address"), ("fe80::1%eth0", "zone"), ("::ffff:0:0/95", "IPv4 addresses as such"),
        ("[::1", "no host"),
        ("::1]", "no host"), ("[10.0.0.1]:80", "no host"), ("2001:db8::1/32", "write 2001:db8::/32"),
        ("straße.example", "ASCII form"), ("a\u200db.example", "ASCII form"),
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused_in_words(text: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refusal:
        parse(text)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7F000001", "0177.0.0.1", "017700000001", "127.0.0.1.",
     "::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:7f00:1", "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1"],
)  # fmt: skip
def test_an_address_is_found_in_every_spelling(text: str) -> None:
    assert parse_host(text) == ipaddress.ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "port", "is_allowed"),
    [
        ("pypi.org", 443, True), ("pypi.org", 80, True), ("pypi.org", 22, False), ("PYPI.ORG.", 443, True),
        ("evilpypi.org", 443, False), ("pypi.org.evil", 443, False), ("files.pypi.org", 443, False),
        ("api.github.com", 443, True), ("a.b.github.com", 443, True), ("github.com", 443, False),
        ("api.github.com", 80, False),
        ("evilgithub.com", 443, False), ("secret.github.com", 443, False), ("x.secret.github.com", 443, True),
        ("any.example", 1, True), ("any.example", 65535, True), ("xn--bcher-kva.example", 443, True),
        ("BÜCHER.example", 443, True), ("10.1.2.3", 5432, True), ("167838211", 5432, True), ("10.1.2.3", 443, False),
        ("10.9.0.1", 5432, False), ("11.0.0.1", 5432, False), ("2001:db8::9", 443, True), ("2001:db9::9", 443, False),
        ("", 443, False), ("no host", 443, False), ("pypi.org\0", 443, False), ("pypi.org:443", 443, False),
    ],
)  # fmt: skip
def test_deny_wins_and_what_is_not_listed_is_refused(host: str, port: int, is_allowed: bool) -> None:
    allow = ["pypi.org", "*.github.com:443", "any.example:*", "bücher.example", "10.0.0.0/8:5432", "2001:db8::/32"]
    assert HostList(allow, ["secret.github.com", "10.9.0.0/16:*"]).allows(host, port) is is_allowed


def test_an_empty_list_allows_nothing() -> None:
    assert not HostList([], []).allows("pypi.org", 443)


def test_a_list_has_a_bounded_number_of_entries() -> None:
    names = [f"h{number}.example" for number in range(ENTRIES_MAX)]
    assert HostList(names, []).allows("h7.example", 443)
    with pytest.raises(ValueError, match="more than 256"):
        HostList(names, ["one.more.example"])
