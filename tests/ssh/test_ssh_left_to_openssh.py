"""What Fabric's carrier leaves to OpenSSH, and variables in ssh_config."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from codesmith.errors import AuthenticationFailed, CodeSmithError, Unreachable
from tests.releases import TRIXIE_FIRST
from tests.ssh.ssh_operator import Operator, ssh_agent, sshd

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]


# What is for OpenSSH alone


def test_a_key_of_a_security_key_is_left_to_openssh(operator: Operator, new_key: Callable[..., str]) -> None:
    key = operator.folder / "id_sk"
    key.write_text(security_key())
    key.chmod(0o600)
    operator.configure(f" IdentityFile {key}\n")
    with pytest.raises(AuthenticationFailed, match=r"id_sk \(only OpenSSH can use this kind of key\)") as caught:
        operator.who()
    assert caught.value.openssh_may_help
    operator.configure(f" IdentityFile {new_key()}\n")
    with pytest.raises(AuthenticationFailed) as caught:
        operator.who()
    assert not caught.value.openssh_may_help


def security_key() -> str:
    """Return a private key of type sk-ssh-ed25519, as `ssh-keygen -t ed25519-sk` writes it."""

    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    kind, point, application = string(b"sk-ssh-ed25519@openssh.com"), string(b"p" * 32), string(b"ssh:")
    private = b"\0\0\0\1" * 2 + kind + point + application + b"\1" + string(b"handle") + string(b"") + string(b"me")
    private += bytes(range(1, 1 + -len(private) % 8))
    public = string(kind + point + application)
    data = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + b"\0\0\0\1" + public + string(private)
    lines = b64encode(data).decode()
    begin, end = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
    return "\n".join([begin, *(lines[at : at + 70] for at in range(0, len(lines), 70)), end, ""])


def test_keys_of_pkcs11_are_left_to_openssh(operator: Operator, new_key: Callable[..., str]) -> None:
    operator.configure(f" IdentityFile {new_key()}\n PKCS11Provider /usr/lib/opensc-pkcs11.so\n")
    with pytest.raises(AuthenticationFailed, match=r"PKCS11Provider /usr/lib/opensc-pkcs11.so are not read") as caught:
        operator.who()
    assert caught.value.openssh_may_help


def test_a_key_for_one_destination_is_left_to_openssh(
    operator: Operator, new_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, host = new_key(), operator.far.record.host
    operator.authorise(key)
    operator.configure("")
    constrained = ("-h", host, "-H", f"{operator.folder}/known_hosts")
    with ssh_agent(operator.folder, key, options=constrained) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert operator.is_let_in_by_ssh()
        with pytest.raises(AuthenticationFailed, match="no signature of agent") as caught:
            operator.who()
    assert caught.value.openssh_may_help


@pytest.mark.parametrize(
    "line", ["Ciphers chacha20-poly1305@openssh.com", "KexAlgorithms sntrup761x25519-sha512@openssh.com"]
)
def test_algorithms_that_only_openssh_has_are_told(operator: Operator, new_key: Callable[..., str], line: str) -> None:
    operator.configure(f" IdentityFile {new_key()}\n")
    with sshd(operator.far, line):
        with pytest.raises(Unreachable, match="no common algorithm") as caught:
            operator.who()
    assert caught.value.openssh_may_help


def test_a_proxy_that_hands_over_its_socket_is_told(operator: Operator, new_key: Callable[..., str]) -> None:
    operator.configure(
        f" IdentityFile {new_key()}\n ProxyCommand touch {operator.folder}/was-run\n ProxyUseFdpass yes\n"
    )
    with pytest.raises(Unreachable, match="ProxyUseFdpass") as caught:
        operator.who()
    assert caught.value.openssh_may_help
    assert not (operator.folder / "was-run").exists()


# Variables in ssh_config


def test_variables_are_expanded_where_openssh_does(
    operator: Operator, authority: str, new_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(operator.folder))
    by_file, by_certificate, by_agent = new_key(), new_key(), new_key("-t", "ed25519", "-N", "secret")
    operator.authorise(by_file)
    operator.authorise(by_agent)
    operator.sign(authority, by_certificate)
    Path(f"{by_certificate}-cert.pub").rename(operator.folder / "certificate")
    (operator.folder / "known_hosts").rename(operator.folder / "pins")
    pins = " UserKnownHostsFile ${PLACE}/pins\n"

    def at(path: str) -> str:
        return f"${{PLACE}}/{Path(path).name}"

    operator.configure(f"{pins} IdentityFile {at(by_file)}\n")
    assert operator.who() == "root"
    operator.configure(f"{pins} IdentityFile {at(by_certificate)}\n CertificateFile ${{PLACE}}/certificate\n")
    assert operator.who() == "root"
    with ssh_agent(operator.folder, by_agent) as path:
        operator.configure(f"{pins} IdentityFile {at(by_agent)}\n IdentityAgent {at(path)}\n")
        assert operator.who() == "root"
        monkeypatch.setenv("MY_AGENT", path)
        operator.configure(f"{pins} IdentityFile {at(by_agent)}\n IdentityAgent $MY_AGENT\n")
        assert operator.who() == "root"


@pytest.mark.parametrize("keyword", ["IdentityFile", "CertificateFile", "IdentityAgent", "UserKnownHostsFile"])
def test_a_variable_that_is_not_set_is_told(operator: Operator, keyword: str) -> None:
    operator.configure(f" {keyword} ${{NOT_SET}}/x\n")
    # `ssh -G` sees to some of them itself.
    words = rf"{keyword} in the ssh configuration names \${{NOT_SET}}, which is not set|nvironment .*expansion"
    with pytest.raises(CodeSmithError, match=words):
        operator.target()
