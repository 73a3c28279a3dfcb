"""Inputs of git are checked before any program starts."""

from __future__ import annotations

import pytest

from agent.git import grammar
from agent.git.errors import redact
from agent.shared.errors import InvalidParams

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAA\n-----END OPENSSH PRIVATE KEY-----\n"
HTTPS, SSH = "https://h/p", "git@h:p"


@pytest.mark.parametrize(
    "url",
    ["https://git.example.org/a/b.git", "https://127.0.0.1:8443/x", "https://[::1]:1/x", "https://ada@h/p", "https://ada%40corp.example@h:1/p",
     "ssh://git@host:22/a.git",
     "ssh://host/~me/a", "git@host:team/a.git", "git@host:/srv/a.git", "git@h:~/a"],
)  # fmt: skip
def test_a_good_url_stays_as_it_is(url: str) -> None:
    assert grammar.parse_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "http://h/p", "git://h/p", "file:///etc", "ext::sh -c id", "/etc", "../x", "-uid", "--upload-pack=id",
     "https://u:p@h/p", "https://:p@h/p", "https://@h/p", "https://u:@h/p", "https://u%3ap@h/p",
     "https://ghp_abcdef@h/p", "https://github_pat_1@h/p", "https://glpat-1@h/p", "https://" + "a1" * 16 + "@h/p",
     "https://h", "https:///p", "https://-h/p", "https://h:0/p", "https://h:65536/p",
     "https://h:99999999/p", "https://h/p\n", "https://h/p\0", "https://h/p q", "https://h/%0ahost=x", "https://h/?a#b",
     "HTTPS://h/p", "ssh://-oProxyCommand=id/p", "ssh://-u@h/p", "ssh://u:p@h/p", "-u@h:p", "u@-h:p", "u@h:-p", "h:p",
     "u@h::p", "https://h/é", "https://h/" + "a" * 2048, None, 1, ["https://h/p"]],
)  # fmt: skip
def test_a_bad_url_is_refused(url: object) -> None:
    with pytest.raises(InvalidParams, match="url"):
        grammar.parse_url(url)


@pytest.mark.parametrize("ref", ["main", "v1.0", "feature/a-b", "a@b", "é", "x" * 255])
def test_a_good_ref_stays_as_it_is(ref: str) -> None:
    assert grammar.parse_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "--upload-pack=id", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\n", "a\x7f", "/a",
     "a/", "a//b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a@{1}", "@", "HEAD", "\ud800", "x" * 256, None, 1],
)  # fmt: skip
def test_a_bad_ref_is_refused(ref: object) -> None:
    with pytest.raises(InvalidParams, match="ref"):
        grammar.parse_ref(ref)


def test_a_commit_is_a_whole_hash_in_small_letters() -> None:
    assert grammar.is_commit("0a" * 20)
    assert grammar.is_commit("0a" * 32)
    for ref in ("0a" * 19, "0a" * 21, "0A" * 20, "0g" * 20, "0a" * 20 + "\n", "main"):
        assert not grammar.is_commit(ref)
    with pytest.raises(InvalidParams, match="default_branch"):
        grammar.parse_branch("0a" * 20, "default_branch")


@pytest.mark.parametrize("depth", [0, -1, True, 1.0, "1", 10**7])
def test_a_bad_depth_is_refused(depth: object) -> None:
    with pytest.raises(InvalidParams, match="depth"):
        grammar.parse_depth(depth)


@pytest.mark.parametrize(
    ("value", "url", "parsed"),
    [
        (None, HTTPS, {}),
        ({"token": "t"}, HTTPS, {"username": "x-access-token", "password": "t"}),
        ({"username": "u", "password": "p"}, HTTPS, {"username": "u", "password": "p"}),
        ({"token": "t"}, "https://ada@h/p", {"username": "ada", "password": "t"}),
        ({"username": "ada@c", "token": "t"}, "https://ada%40c@h/p", {"username": "ada@c", "password": "t"}),
        ({"ssh_key": KEY.replace("\n", "\r\n")}, SSH, {"ssh_key": KEY}),
        ({"ssh_key": KEY.strip()}, "ssh://h/p", {"ssh_key": KEY}),
    ],
)
def test_a_good_credential_is_parsed(value: object, url: str, parsed: dict[str, str]) -> None:
    assert grammar.parse_credential(value, url) == parsed


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("geheim", HTTPS), ({}, HTTPS), ({"username": "geheim"}, HTTPS),
        ({"token": "geheim", "password": "geheim"}, HTTPS),
        ({"token": "geheim\nhost=x"}, HTTPS), ({"token": ""}, HTTPS), ({"token": 1}, HTTPS),
        ({"token": "geheim\0"}, HTTPS), ({"username": "bob", "token": "geheim"}, "https://ada@h/p"),
        ({"username": "geheim\n", "token": "x"}, HTTPS), ({"ssh_key": KEY}, HTTPS), ({"token": "geheim"}, SSH),
        ({"ssh_key": "geheim"}, SSH), ({"ssh_key": KEY + "\0"}, SSH), ({"ssh_key": KEY, "token": "geheim"}, SSH),
        ({"token": "g" * 9000}, HTTPS), ({"ssh_key": KEY + "a" * 20000}, SSH),
    ],
)  # fmt: skip
def test_a_bad_credential_is_refused_without_showing_it(value: object, url: str) -> None:
    with pytest.raises(InvalidParams, match="credential") as refusal:
        grammar.parse_credential(value, url)
    assert "geheim" not in str(refusal.value.to_dict())


@pytest.mark.parametrize(
    "line",
    ["", "# x", "h", "@cert-authority h ssh-ed25519 " + "A" * 40, "h ssh-ed25519 A\nB", "h ssh-ed25519",
     "h rsa " + "A" * 40],
)  # fmt: skip
def test_a_bad_host_key_is_refused(line: str) -> None:
    assert grammar.parse_known_hosts(["[h]:22 ssh-ed25519 " + "A" * 40]) != []
    with pytest.raises(InvalidParams, match="known_hosts"):
        grammar.parse_known_hosts([line])


def test_a_name_follows_from_the_url() -> None:
    assert grammar.name_from_url("https://h/Team/Site.git") == "site"
    assert grammar.name_from_url("git@h:a/") == "a"
    with pytest.raises(InvalidParams, match="name"):
        grammar.name_from_url("https://h/a_b.git")


def test_what_git_says_is_shown_without_secrets_and_control_characters() -> None:
    text = "fatal: https://me:geheim@h/p says\x1b[31m geheim1 and b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAA\n"
    shown = redact(text, {"password": "geheim1", "ssh_key": KEY})
    assert shown == "fatal: https://h/p says [31m [redacted] and [redacted]\n"
