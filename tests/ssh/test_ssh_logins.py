"""Where plain `ssh` with the same configuration is let in, so are we: by Fabric, by OpenSSH, or by whichever works."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.errors import AuthenticationFailed
from codesmith.secrets import Secrets
from codesmith.ssh.connection import OPENSSH
from codesmith.ssh.target import resolve
from tests.ssh.carrier_desk import Desk, run
from tests.ssh_agent import SshAgent, running_agent

pytestmark = pytest.mark.lab
PASSPHRASE = "a pässphrase"


def keygen(*words: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def authority(desk: Desk) -> str:
    """Return an authority whose certificates open root's login."""
    path = desk.folder / "ca"
    keygen("-t", "ed25519", "-N", "", "-f", str(path))
    (desk.node.root / "etc/ssh/ca.pub").write_text(Path(f"{path}.pub").read_text())
    desk.sshd("TrustedUserCAKeys /etc/ssh/ca.pub", "AuthorizedKeysFile none")
    return str(path)


def certified(desk: Desk, name: str, passphrase: str = "") -> str:
    """Return a key that opens nothing without the certificate beside it."""
    ca, path = authority(desk), str(desk.folder / name)
    keygen("-t", "ed25519", "-N", passphrase, "-f", path)
    keygen("-s", ca, "-I", "ada", "-n", "root", f"{path}.pub")
    return path


def agent_with(desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch) -> SshAgent:
    agent = desk.undo.enter_context(running_agent())
    agent.add(Path(key).read_text())
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.path))
    return agent


def public_key_of_the_agent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    key = desk.new_key("id_agent")
    agent_with(desk, key, monkeypatch)
    Path(key).unlink()
    return f"IdentityFile {key}.pub\n IdentitiesOnly yes"


def certificate_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    key = certified(desk, "id_certified")
    Path(f"{key}-cert.pub").rename(desk.folder / "elsewhere.pub")
    return f"IdentityFile {key}\n CertificateFile {desk.folder}/elsewhere.pub"


def certificate_of_a_locked_key_in_the_agent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    key = certified(desk, "id_locked")
    agent_with(desk, key, monkeypatch)
    keygen("-p", "-P", "", "-N", PASSPHRASE, "-f", key)
    return f"IdentityFile {key}"


def pkcs8(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    path = desk.folder / "id_pkcs8"
    keygen("-t", "ecdsa", "-N", "", "-m", "PKCS8", "-f", str(path))
    keys = desk.node.root / "root/.ssh/authorized_keys"
    keys.write_text(keys.read_text() + Path(f"{path}.pub").read_text())
    return f"IdentityFile {path}"


def variable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KEYS_OF_ADA", str(Path(desk.identity).parent))
    return f"IdentityFile ${{KEYS_OF_ADA}}/{Path(desk.identity).name}"


def hash_of_the_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    said = subprocess.run(
        ["ssh", "-G", "-o", "ControlPath=/%C", "root@web"], capture_output=True, text=True, check=True
    ).stdout
    token = next(line.split("/")[1] for line in said.splitlines() if line.startswith("controlpath "))
    Path(desk.new_key("id_hash")).rename(desk.folder / token)
    return f"IdentityFile {desk.folder}/%C"


def one_that_cannot_be_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    return f"IdentityFile {desk.folder}/{'x' * 300}\n IdentityFile {desk.identity}"


LOGINS = {
    "key.pub of the agent": public_key_of_the_agent,
    "CertificateFile": certificate_file,
    "certificate of a locked key in the agent": certificate_of_a_locked_key_in_the_agent,
    "PKCS8": pkcs8,
    "variable": variable,
    "hash of the way": hash_of_the_way,
    "one that cannot be looked at": one_that_cannot_be_looked_at,
}


@pytest.mark.parametrize("arrange", LOGINS.values(), ids=LOGINS)
def test_what_opens_for_ssh_opens_for_us(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, arrange: Callable[[Desk, pytest.MonkeyPatch], str]
) -> None:
    desk.configure(f"Host web\n HostName {desk.host}\n {arrange(desk, monkeypatch)}\n")
    plain = ["ssh", "-o", f"UserKnownHostsFile={desk.folder}/known_hosts", "-o", "BatchMode=yes", "root@web", "id -un"]
    assert subprocess.run(plain, capture_output=True, text=True, check=True).stdout == "root\n"
    target = resolve(desk.entry())
    assert run(target, secrets=Secrets())[1] == "root"
    assert run(replace(target, carrier=OPENSSH)) == (OPENSSH, "root")


@pytest.mark.parametrize(
    ("kind", "carrier"),
    [
        *itertools.product(["missing", "directory", "no key", "public half alone"], ["", OPENSSH]),
        ("open to others", OPENSSH),  # which refuses it; Fabric does not mind
    ],
)
def test_nothing_takes_the_place_of_an_identity_that_cannot_be_used(desk: Desk, kind: str, carrier: str) -> None:
    """The ssh configuration names a key that opens; so does the default for a node without `identity:`."""
    path = desk.folder / "named"
    if kind == "directory":
        path.mkdir()
    elif kind == "no key":
        path.write_text("no key\n")
    elif kind != "missing":
        keygen("-t", "ed25519", "-N", "", "-f", str(path))
        path.chmod(0o644)
    if kind == "public half alone":
        path.unlink()
    with pytest.raises(AuthenticationFailed, match=str(path)):
        run(resolve(desk.entry(identity=str(path), ssh=carrier)))
    assert run(resolve(desk.entry(ssh=carrier)))[1] == "root"


def test_a_host_certificate_is_accepted_from_a_pinned_authority_alone(desk: Desk) -> None:
    ca = str(desk.folder / "host_ca")
    keygen("-t", "ed25519", "-N", "", "-f", ca)
    there = desk.node.root / "etc/ssh/ssh_host_ed25519_key.pub"
    copy = desk.folder / "host.pub"
    copy.write_text(there.read_text())
    keygen("-s", ca, "-I", "web", "-h", "-n", desk.host, str(copy))
    (there.parent / "ssh_host_ed25519_key-cert.pub").write_text((desk.folder / "host-cert.pub").read_text())
    desk.sshd("HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub")
    (desk.folder / "known_hosts").write_text(f"@cert-authority * {Path(f'{ca}.pub').read_text()}")
    assert run(resolve(desk.entry(ssh=OPENSSH))) == (OPENSSH, "root")
