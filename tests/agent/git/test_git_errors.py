"""Errors of git and ssh: the line that tells the cause, and the hint that helps."""

from __future__ import annotations

import base64

import pytest

from agent.git.errors import STDERR_MAX, deciding, hint_for, redact, whole_lines

END = """\
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
SSH, HTTPS, PORT = "git@forge:team/a.git", "https://forge:8443/a.git", "ssh://git@forge:2222/a"
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /proc/12/fd/5:1
Host key for forge has changed and you have requested strict checking.
Host key verification failed.
"""
UNABLE = "fatal: unable to access 'https://forge:8443/a.git/': "


@pytest.mark.parametrize(
    ("said", "url", "line", "help_"),
    [
        ("ssh: connect to host forge port 2222: No route to host\n", PORT, "No route to host", "ssh -v -p 2222 forge"),
        ("ssh: connect to host forge port 22: Connection refused\n", SSH, "Connection refused", "ssh -v -p 22 forge"),
        ("ssh: Could not resolve hostname forge: Name or service not known\n", SSH, "not known", "getent hosts forge"),
        ("No ED25519 host key is known for forge and you have requested strict checking.\n"
         "Host key verification failed.\n", SSH, "No ED25519 host key is known", "--known-hosts"),
        ("ED25519 host key for forge has changed and you have requested strict checking.\n"
         "Host key verification failed.\n", SSH, "host key for forge has changed", "known_hosts of the workspace's"),
        (CHANGED, SSH, "Host key for forge has changed", "--known-hosts"),
        ('Load key "/proc/33/fd/7": error in libcrypto\ngit@forge: Permission denied (publickey).\n', SSH,
         "Load key the given file: error in libcrypto; git@forge: Permission denied", "--credential-file"),
        ("git@forge: Permission denied (publickey).\n", SSH, "Permission denied (publickey)", "--forward-agent"),
        ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\n", SSH, "Too many auth",
         "--credential-file"),
        ("kex_exchange_identification: Connection closed by remote host\n", SSH, "kex_exchange", "ssh -v"),
        ("Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa\n", SSH,
         "Their offer: ssh-rsa", "ssh -v"),
        ("ERROR: Repository not found.\n", SSH, "ERROR: Repository not found.", "--credential-file"),
        ("fatal: '/srv/no.git' does not appear to be a git repository\n", SSH, "does not appear", "check the URL"),
    ],
)  # fmt: skip
def test_errors_of_ssh(said: str, url: str, line: str, help_: str) -> None:
    assert line in deciding(said + END)
    assert "correct access rights" not in deciding(said + END)
    assert "Could not read from remote" not in deciding(said + END)
    assert help_ in hint_for(said + END, url, {})


@pytest.mark.parametrize(
    ("said", "line", "help_"),
    [
        (UNABLE + "Could not resolve host: forge", "Could not resolve host: forge", "https_proxy="),
        (UNABLE + "Failed to connect to forge port 8443 after 1 ms: Couldn't connect to server", "Couldn't connect",
         "curl -v https://forge:8443"),
        (UNABLE + "Failed to connect to 10.0.0.1 port 3128 after 0 ms: Couldn't connect to server", "port 3128",
         "10.0.0.1:3128 is the node's proxy"),
        (UNABLE + "Failed to connect to forge port 8443 via proxy.example after 0 ms: Could not connect to server",
         "via proxy.example", "proxy.example is the node's proxy"),
        (UNABLE + "Could not resolve proxy: proxy.example", "resolve proxy", "https_proxy="),
        (UNABLE + "Received HTTP code 407 from proxy after CONNECT", "407 from proxy", "https_proxy="),
        (UNABLE + "CONNECT tunnel failed, response 407", "response 407", "https_proxy="),
        (UNABLE + "SSL certificate problem: self-signed certificate", "self-signed", "update-ca-certificates"),
        (UNABLE + "server certificate verification failed. CAfile: none CRLfile: none", "certificate verification",
         "update-ca-certificates"),
        (UNABLE + "server verification failed: signer not trusted.", "not trusted", "update-ca-certificates"),
        (UNABLE + "SSL: certificate subject name (other) does not match target host name 'forge'", "name (other)",
         "is for another name than forge"),
        (UNABLE + "SSL: no alternative certificate subject name matches target host name 'forge'", "no alternative",
         "is for another name than forge"),
        (UNABLE + "gnutls_handshake() failed: An unexpected TLS packet was received.", "unexpected TLS packet",
         "port 8443 of forge does not speak TLS"),
        (UNABLE + "The requested URL returned error: 403", "403", "--credential-file"),
        ("fatal: could not read Username for 'https://forge:8443': terminal prompts disabled", "not read Username",
         "--credential-file"),
        ("remote: Invalid username or token.\nfatal: Authentication failed for 'https://forge:8443/a.git/'",
         "Invalid username or token.; fatal: Authentication failed", "--credential-file"),
        ("remote: Not Found\nfatal: repository 'https://forge:8443/a.git/' not found", "not found", "check the URL"),
        ("fatal: Remote branch nope not found in upstream origin", "Remote branch nope not found", "--ref"),
        (f"error: Unable to find {'0' * 40} under https://forge:8443/a.git", "Unable to find 0", "--ref"),
        (f"fatal: remote error: upload-pack: not our ref {'0' * 40}", "not our ref", "--ref"),
    ],
)  # fmt: skip
def test_errors_of_https(said: str, line: str, help_: str) -> None:
    assert line in deciding(said)
    assert help_ in hint_for(said, HTTPS, {})


def test_an_unknown_cause_shows_the_line_of_git() -> None:
    assert deciding("warning: x\nfatal: the moon is full\nmore\n") == "fatal: the moon is full"
    assert deciding("only this\n") == "only this"
    assert deciding("") == "no message"
    assert hint_for("fatal: the moon is full", HTTPS, {}) == ""


def test_the_advice_fits_what_was_given() -> None:
    denied = "git@forge: Permission denied (publickey).\n"
    assert "ssh-add -l" in hint_for(denied, SSH, {"agent": "a" * 64})
    assert "--username" in hint_for("fatal: Authentication failed for x", HTTPS, {"username": "u", "password": "p"})


def test_a_secret_is_shown_in_no_form() -> None:
    sent = base64.b64encode(b"ada:geheim1").decode()
    text = f"remote: geheim1 {sent} geheim10 proxy:word ada\n"
    shown = redact(text, {"username": "ada", "password": "geheim1"}, ["proxy:word", "word"])
    assert shown == "remote: [redacted] [redacted] [redacted]0 [redacted] ada\n"


def test_half_of_a_line_that_was_cut_is_not_shown() -> None:
    assert whole_lines("short geheim") == "short geheim"
    assert whole_lines("eheim" + "x" * STDERR_MAX + "\nfatal: over\n") == "fatal: over\n"
