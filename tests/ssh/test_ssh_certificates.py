"""Certificates of keys and of hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codesmith.errors import AuthenticationFailed, HostKeyUnknown
from tests.releases import TRIXIE_FIRST
from tests.ssh.ssh_operator import TYPES, Operator, ssh_agent, sshd, who

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]


# Certificates


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("where", ["beside", "CertificateFile", "agent and disk", "agent", "CertificateFile and agent"])
def test_a_certificate_is_shown_wherever_it_is(
    operator: Operator,
    authority: str,
    new_key: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    kind: str,
) -> None:
    key = new_key(*TYPES[kind], "-N", "secret" if "agent" in where else "")
    certificate = operator.sign(authority, key)
    if "CertificateFile" in where:
        certificate = str(Path(certificate).rename(operator.folder / "elsewhere.pub"))
    configured = f" CertificateFile {certificate}\n" if "CertificateFile" in where else ""
    operator.configure(configured + (f" IdentityFile {key}\n" if where != "CertificateFile and agent" else ""))
    with ssh_agent(operator.folder, *([key] if "agent" in where else [])) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        if where == "agent":
            for left in (certificate, key, f"{key}.pub"):
                Path(left).unlink()
            operator.configure("")
        assert operator.who() == "root"


def test_the_plain_key_follows_a_certificate_that_is_refused(operator: Operator, new_key: Callable[..., str]) -> None:
    key, stranger = new_key(), new_key()
    operator.authorise(key)
    operator.sign(stranger, key)
    operator.configure(f" IdentityFile {key}\n")
    assert operator.who() == "root"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-n", "root", "-V", "20200101:20200201"), r"expired on 2020-02-01"),
        (("-n", "root", "-V", "20400101:20410101"), r"not valid yet"),
        (("-n", "nobody,daemon"), r"for nobody, daemon"),
    ],
)
def test_a_certificate_that_cannot_open_is_told(
    operator: Operator, authority: str, new_key: Callable[..., str], options: tuple[str, ...], says: str
) -> None:
    """sshd says so in its own log alone."""
    key = new_key()
    name = Path(operator.sign(authority, key, *options)).name
    operator.configure(f" IdentityFile {key}\n")
    with pytest.raises(AuthenticationFailed, match=rf"tried: {key} with {name} \({says}\), {key}"):
        operator.who()


def test_a_certificate_file_that_is_none_is_told(operator: Operator, new_key: Callable[..., str]) -> None:
    operator.configure(f" IdentityFile {new_key()}\n CertificateFile {operator.folder}/none\n")
    with pytest.raises(AuthenticationFailed, match=rf"not usable: {operator.folder}/none \(no certificate\)"):
        operator.who()


# Authorities of hosts


@pytest.mark.parametrize("port", [22, 2222])
def test_an_authority_of_hosts_is_left_to_openssh(
    operator: Operator, authority: str, new_key: Callable[..., str], port: int
) -> None:
    key, host = new_key(), operator.far.record.host
    operator.authorise(key)
    etc = operator.far.root / "etc/ssh"
    public = etc / "ssh_host_ed25519_key.pub"
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", host, public], check=True)
    (operator.folder / "known_hosts").write_text(f"@cert-authority {host} {Path(f'{authority}.pub').read_text()}")
    operator.configure(f" IdentityFile {key}\n Port {port}\n UserKnownHostsFile /dev/null\n")
    settings = "HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub\nPort 22\nPort 2222"
    with sshd(operator.far, settings):
        target = operator.target()
        with pytest.raises(HostKeyUnknown, match=rf"authority in {operator.folder}/known_hosts:1 vouches") as caught:
            who(target)
        assert caught.value.openssh_may_help
        # A pin counts as ever.
        with (operator.folder / "known_hosts").open("a") as pins:
            pins.write(f"{target.key_name} {' '.join(public.read_text().split()[:2])}\n")
        assert who(target) == "root"
    (etc / "ssh_host_ed25519_key-cert.pub").unlink()
