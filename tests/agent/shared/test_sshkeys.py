"""Public keys: keys of ssh-keygen are accepted and shown as ssh-keygen shows them; anything else is refused."""

from __future__ import annotations

import base64
import struct
import subprocess
from pathlib import Path

import pytest

from agent.shared import sshkeys
from agent.shared.errors import InvalidParams

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"


@pytest.mark.parametrize("kind", [["ed25519"], ["ecdsa", "-b", "384"], ["rsa", "-b", "2048"]], ids=lambda kind: kind[0])
def test_fingerprint_is_that_of_ssh_keygen(kind: list[str], tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "ada at home", "-t", *kind, "-f", file], check=True)
    (line,) = sshkeys.parse_keys([(tmp_path / "key.pub").read_text().strip()])
    shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{file}.pub"], check=True, capture_output=True, text=True).stdout
    described = sshkeys.describe(line)
    assert described.fingerprint == shown.split()[1]
    assert described.comment == "ada at home"


def test_doubles_are_dropped() -> None:
    assert sshkeys.parse_keys([ED25519, ED25519]) == [ED25519]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + ED25519.split()[1],
        f'command="sh" {ED25519}',
        f"no-pty {ED25519}",
        f"{ED25519}\n{ED25519}",
        f"{ED25519} a\x1b[2J",
        f"{ED25519} a\x9b2J",
        f"{ED25519} a\u2028b",
        ED25519.replace(" ", "\xa0"),
        ED25519.replace(" ", "\u2003"),
        "ssh-dss AAAAB3NzaC1kc3MAAAABAA==",
        "ssh-ed25519 !!!!",
    ],
)
def test_what_is_no_plain_key_is_refused(line: str) -> None:
    with pytest.raises(InvalidParams, match=r"ssh_keys\[0\]"):
        sshkeys.parse_keys([line])


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "1024", "-f", file], check=True)
    with pytest.raises(InvalidParams, match="2048"):
        sshkeys.parse_keys([(tmp_path / "key.pub").read_text().strip()])


def test_a_key_that_openssh_does_not_take_is_refused() -> None:
    assert sshkeys.read_keys([ED25519]) == [ED25519]
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", b"short"))
    short = f"ssh-ed25519 {base64.b64encode(blob).decode()}"
    assert sshkeys.parse_keys([short])
    with pytest.raises(InvalidParams, match=r"ssh_keys\[1\].*ssh-keygen"):
        sshkeys.read_keys([ED25519, short])
