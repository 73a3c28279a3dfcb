"""Only a person pins a host key; a changed key is refused before any credential is sent."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.errors import Cancelled, CodeSmithError, HostKeyChanged, HostKeyUnknown
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.ssh import hostkeys
from codesmith.ssh.authentication import NodeAuth
from codesmith.ssh.fabric_connection import connect, fetch_host_key
from codesmith.ssh.hostkeys import HostKey
from codesmith.ssh.target import Target
from codesmith.ssh.trust import add_pin, trust

KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"k" * 32)
OTHER = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"o" * 32)


def line(names: str, key: HostKey, marker: str = "") -> str:
    return f"{marker}{names} {key.type} {base64.b64encode(key.blob).decode()} a comment\n"


def keygen(*argv: str) -> str:
    return subprocess.run(["ssh-keygen", *argv], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("names", "port", "is_found"),
    [
        ("web.example.org", 22, True),
        ("WEB.example.org", 22, True),
        ("other,web.example.org", 22, True),
        ("[web.example.org]:2222", 2222, True),
        ("web.example.org", 2222, False),
        ("[web.example.org]:2222", 22, False),
        ("*.example.org", 22, True),
        ("web?example.org", 22, True),
        ("*.example.org,!web.example.org", 22, False),
        ("[*.example.org]:2222", 2222, True),
        ("example.org", 22, False),
    ],
)
def test_known_hosts_names_mean_what_they_mean_to_openssh(
    tmp_path: Path, names: str, port: int, is_found: bool
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# a comment\n\nnonsense\n" + line(names, KEY))
    target = Target("web", "web.example.org", port, known_hosts=(file,))
    assert [pin.key for pin in hostkeys.pins_for(target)] == ([KEY] if is_found else [])
    # The same question to OpenSSH itself (it does not look for wildcards there).
    if "*" not in names and "?" not in names:
        asked = subprocess.run(["ssh-keygen", "-F", target.key_name, "-f", str(file)], capture_output=True, check=False)
        assert (asked.returncode == 0) == is_found


def test_hashed_names_are_found(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("web.example.org,[web.example.org]:2222", KEY))
    keygen("-H", "-f", str(file))
    assert "web" not in file.read_text()
    for port in (22, 2222):
        assert hostkeys.pins_for(Target("web", "web.example.org", port, known_hosts=(file,)))
    assert not hostkeys.pins_for(Target("web", "other.example.org", known_hosts=(file,)))


def test_the_first_file_that_knows_the_host_decides(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text(line("web", OTHER))
    theirs.write_text(line("web", KEY))
    target = Target("web", "web", known_hosts=(tmp_path / "missing", ours, theirs))
    with pytest.raises(HostKeyChanged):
        hostkeys.verify(target, KEY, hostkeys.pins_for(target))


def test_a_revoked_key_is_refused_wherever_it_is_revoked(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text(line("web", KEY))
    theirs.write_text(line("*", KEY, "@revoked "))
    target = Target("web", "web", known_hosts=(ours, theirs))
    with pytest.raises(HostKeyChanged, match=r"revoked in .*theirs:1"):
        hostkeys.verify(target, KEY, hostkeys.pins_for(target))


def test_an_authority_does_not_vouch_for_a_plain_key(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("*", KEY, "@cert-authority "))
    target = Target("web", "web", known_hosts=(file,))
    with pytest.raises(HostKeyUnknown):
        hostkeys.verify(target, KEY, hostkeys.pins_for(target))


def test_a_pin_is_added_without_touching_the_rest(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("# ours\n" + line("db", OTHER).rstrip("\n"))
    real.chmod(0o640)
    (tmp_path / "known_hosts").symlink_to(real)
    add_pin(tmp_path / "known_hosts", "web", KEY)
    assert real.read_text().startswith("# ours\n" + line("db", OTHER))
    assert (tmp_path / "known_hosts").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert KEY.fingerprint in keygen("-l", "-F", "web", "-f", str(real))
    assert {path.name for path in tmp_path.iterdir()} == {"real", "known_hosts"}


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a login is tried."""

    def tried(*_: object) -> None:
        pytest.fail("a login was tried although the host key is not trusted")

    monkeypatch.setattr(NodeAuth, "authenticate", tried)


@pytest.mark.usefixtures("no_login")
def test_an_unknown_key_is_refused_with_its_fingerprint(target: Target, tmp_path: Path) -> None:
    key = fetch_host_key(target)
    with pytest.raises(HostKeyUnknown) as error:
        connect(replace(target, known_hosts=(tmp_path / "empty",)))
    assert key.fingerprint in error.value.problem
    assert error.value.hint.endswith(f"inv node.trust {target.name}")


@pytest.mark.usefixtures("no_login")
def test_a_changed_key_is_refused_before_any_login(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line(target.key_name, KEY))
    with pytest.raises(HostKeyChanged) as error:
        connect(replace(target, known_hosts=(file,)))
    assert KEY.fingerprint in error.value.problem
    assert f"ssh-keygen -R {target.key_name} -f {file}" in error.value.hint


def test_a_host_key_alias_names_the_pin(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    add_pin(file, "the-alias", fetch_host_key(target))
    connect(replace(target, known_hosts=(file,), host_key_alias="the-alias")).close()


@pytest.mark.parametrize("key_type", ["rsa", "ecdsa", "ed25519"])
def test_a_node_is_known_by_any_of_its_keys(node: LabNode, target: Target, tmp_path: Path, key_type: str) -> None:
    public = node.root / "etc/ssh" / f"ssh_host_{key_type}_key.pub"
    if not public.exists():
        node.run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", f"/etc/ssh/ssh_host_{key_type}_key"])
        node.run(["systemctl", "restart", "ssh"])
    file = tmp_path / "known_hosts"
    file.write_text(f"{target.key_name} {public.read_text()}")
    connect(replace(target, known_hosts=(file,))).close()


@pytest.fixture
def stranger(node: LabNode, tmp_path: Path) -> Node:
    """The lab node as an unknown host: an address without a pinned key."""
    address = node.address
    return Node("stranger", tmp_path / "nodes.yaml", address.host, "root", 22, str(address.identity))


def test_trust_pins_once_and_says_so(stranger: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    done = trust(stranger, confirm=agree)
    assert done.added
    assert done.fingerprint in asked[0]
    assert not trust(stranger, confirm=agree).added
    assert len(asked) == 1
    assert stranger.known_hosts.read_text().count("\n") == 1


def test_trust_without_a_yes_changes_nothing(stranger: Node) -> None:
    with pytest.raises(Cancelled) as no:
        trust(stranger, confirm=lambda _: False)
    assert no.value.hint == f"compare the fingerprint, then: inv node.trust {stranger.name} --yes"
    assert not stranger.known_hosts.exists()


def test_a_pin_that_cannot_be_written_is_named(stranger: Node) -> None:
    with pytest.raises(CodeSmithError, match=r"^error: cannot write /proc/known_hosts: No such file or directory"):
        trust(replace(stranger, registry=Path("/proc/nodes.yaml")), yes=True)


def test_trust_never_replaces_a_pin(stranger: Node) -> None:
    stranger.known_hosts.write_text(line(str(stranger.host), KEY))
    with pytest.raises(HostKeyChanged, match=r"HOST KEY CHANGED") as error:
        trust(stranger, yes=True)
    assert "ssh-keygen -R" in error.value.hint
    assert stranger.known_hosts.read_text() == line(str(stranger.host), KEY)


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"{KEY.type} {base64.b64encode(KEY.blob).decode()}\n")
    assert KEY.fingerprint == keygen("-l", "-f", str(tmp_path / "key.pub")).split()[1]


def test_two_at_once_lose_no_pin(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def add(number: int) -> None:
        add_pin(tmp_path / "known_hosts", f"web{number}", KEY)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len((tmp_path / "known_hosts").read_text().splitlines()) == 40
