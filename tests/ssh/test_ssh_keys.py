"""Every key that plain `ssh` would offer is offered: certificates, public keys, formats, agents, gateways."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyUnknown, Unreachable
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node, Registry
from codesmith.secrets import Secrets
from codesmith.ssh.fabric_connection import connect
from codesmith.ssh.gateway import gateway_of
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target, resolve
from tests.agent.on_node.web1 import BOTH_RELEASES

pytestmark = [pytest.mark.lab, BOTH_RELEASES]
RESTART = "systemctl reset-failed ssh; systemctl restart ssh"
TYPES = {"ed25519": ("-t", "ed25519"), "ecdsa": ("-t", "ecdsa"), "rsa": ("-t", "rsa")}


@dataclass(frozen=True)
class Operator:
    """An operator with an ssh configuration, and a node that may know their keys."""

    folder: Path
    far: LabNode

    def configure(self, text: str) -> None:
        """Write the ssh configuration of `web`."""
        (self.folder / "ssh_config").write_text(f"Host web\n HostName {self.far.record.host}\n User root\n{text}")

    def target(self, **fields: object) -> Target:
        """Return the target of `web` in nodes.yaml."""
        return resolve(Node("web", self.folder / "nodes.yaml", "web", **fields))  # type: ignore[arg-type]

    def who(self, secrets: Secrets | None = None, **fields: object) -> str:
        """Log in as the configuration says; return who we are there."""
        return who(self.target(**fields), secrets)

    def is_let_in_by_ssh(self) -> bool:
        """Return whether plain ssh logs in with the same configuration."""
        words = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "web", "true"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def authorise(self, key: str, login: str = "root") -> None:
        """Authorise a key."""
        home = "root" if login == "root" else f"home/{login}"
        with (self.far.root / home / ".ssh/authorized_keys").open("a") as file:
            file.write(Path(f"{key}.pub").read_text())

    def sign(self, authority: str, key: str, *options: str) -> str:
        """Make a certificate; return its path."""
        options = options or ("-n", "root")
        subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "of-a-test", *options, f"{key}.pub"], check=True)
        return f"{key}-cert.pub"


@pytest.fixture(scope="module")
def far(any_node: LabNode, tmp_path_factory: pytest.TempPathFactory) -> LabNode:
    """A node that trusts an authority, and does not punish failed logins."""
    authority = tmp_path_factory.mktemp("authority") / "ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    (any_node.root / "etc/ssh/ca.pub").write_text(authority.with_suffix(".pub").read_text())
    (any_node.root / "root/ca").write_text(authority.read_text())
    lines = ["TrustedUserCAKeys /etc/ssh/ca.pub", *(["PerSourcePenalties no"] if any_node.release == "trixie" else [])]
    (any_node.root / "etc/ssh/sshd_config.d/00-keys.conf").write_text("\n".join(lines) + "\n")
    any_node.run(["/bin/sh", "-c", RESTART])
    return any_node


@pytest.fixture
def authority(far: LabNode, tmp_path: Path) -> str:
    """The authority that the node trusts."""
    path = tmp_path / "ca"
    path.write_text((far.root / "root/ca").read_text())
    path.chmod(0o600)
    path.with_suffix(".pub").write_text((far.root / "etc/ssh/ca.pub").read_text())
    return str(path)


@pytest.fixture
def operator(far: LabNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator whose ssh reads a configuration of this test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/ssh_config "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "known_hosts").write_text(far.address.known_hosts.read_text())
    return Operator(tmp_path, far)


@contextmanager
def ssh_agent(folder: Path, *keys: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """An ssh agent with these keys; gives its socket."""
    path = folder / f"agent-{os.urandom(2).hex()}"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path), "SSH_ASKPASS_REQUIRE": "force"}
            # Locked keys are opened by the program that says "secret".
            ask = folder / "ask"
            ask.write_text("#!/bin/sh\necho secret\n")
            ask.chmod(0o755)
            environment |= {"SSH_ASKPASS": str(ask), "DISPLAY": ":0"}
            deadline = time.monotonic() + 15
            while subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True, check=False).returncode == 2:
                assert time.monotonic() < deadline
            if keys:
                subprocess.run(["ssh-add", "-q", *options, *keys], env=environment, check=True, capture_output=True)
            yield str(path)
        finally:
            process.terminate()


@contextmanager
def sshd(far: LabNode, text: str) -> Iterator[None]:
    """Give sshd other settings for a while."""
    file = far.root / "etc/ssh/sshd_config.d/00-a-test.conf"
    file.write_text(f"{text}\n")
    far.run(["/bin/sh", "-c", RESTART])
    try:
        yield
    finally:
        file.unlink()
        far.run(["/bin/sh", "-c", RESTART])


def who(target: Target, secrets: Secrets | None = None) -> str:
    connection = connect(target, secrets=secrets or Secrets())
    try:
        return run_script(connection, "id -un").stdout.decode().strip()
    finally:
        connection.close()


# Halves of keys, with the ssh agent


@pytest.mark.parametrize("named", ["key.pub", "key", "key without .pub"])
def test_a_key_of_the_agent_is_named_by_either_half(
    operator: Operator, new_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """The private key is locked, or not there at all; others in the agent would use up MaxAuthTries."""
    key, others = new_key("-t", "ed25519", "-N", "secret"), [new_key() for _ in range(3)]
    operator.authorise(key)
    operator.configure(f" IdentityFile {key}{'.pub' if named == 'key.pub' else ''}\n IdentitiesOnly yes\n")
    with ssh_agent(operator.folder, *others, key) as path, sshd(operator.far, "MaxAuthTries 2"):
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        if named == "key.pub":
            Path(key).unlink()
        elif named == "key without .pub":
            Path(f"{key}.pub").unlink()
        assert operator.who() == "root"


def test_a_public_key_that_no_agent_has_is_told(operator: Operator, new_key: Callable[..., str]) -> None:
    key = new_key()
    operator.configure(f" IdentityFile {key}.pub\n")
    with pytest.raises(AuthenticationFailed, match=rf"not usable: {key}.pub \(only the public key; no ssh agent"):
        operator.who()
    with pytest.raises(AuthenticationFailed, match=r"the identity of nodes.yaml cannot be used: .*only the public"):
        operator.who(identity=f"{key}.pub")


def test_an_identity_of_nodes_yaml_that_is_no_key_lets_no_other_in(
    operator: Operator, new_key: Callable[..., str]
) -> None:
    good = new_key()
    operator.authorise(good)
    operator.configure(f" IdentityFile {good}\n")
    bad = operator.folder / "bad"
    bad.write_text("no key\n")
    with pytest.raises(AuthenticationFailed, match=rf"identity of nodes.yaml cannot be used: {bad} \(no private key\)"):
        operator.who(identity=str(bad))
    assert operator.who() == "root"


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


# Formats


@pytest.mark.parametrize("passphrase", ["", "secret"])
@pytest.mark.parametrize("kind", [*TYPES.values(), ("-t", "ecdsa", "-b", "384"), ("-t", "ecdsa", "-b", "521")])
def test_a_key_in_pkcs8_is_read(
    operator: Operator, new_key: Callable[..., str], kind: tuple[str, ...], passphrase: str
) -> None:
    """As `ssh-keygen -m PKCS8` and openssl write it."""
    key = new_key(*kind)
    operator.authorise(key)
    loaded = load_ssh_private_key(Path(key).read_bytes(), None)
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    Path(key).write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    assert b"PRIVATE KEY-----" in Path(key).read_bytes() and b"OPENSSH" not in Path(key).read_bytes()
    operator.configure(f" IdentityFile {key}\n IdentitiesOnly yes\n")
    assert operator.who(Secrets(lambda wanted: passphrase if wanted.kind == "passphrase" else None)) == "root"


def test_ssh_keygen_writes_such_keys(operator: Operator, new_key: Callable[..., str]) -> None:
    for options in (("-t", "rsa", "-m", "PEM"), ("-t", "ecdsa", "-m", "PKCS8"), ("-t", "rsa", "-m", "PKCS8")):
        key = new_key(*options)
        operator.authorise(key)
        operator.configure(f" IdentityFile {key}\n")
        assert operator.who() == "root"


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


# More than one key


def test_two_keys_are_shown_where_sshd_wants_two(operator: Operator, new_key: Callable[..., str]) -> None:
    first, second = new_key(), new_key()
    operator.authorise(first)
    operator.authorise(second)
    operator.configure(f" IdentityFile {new_key()}\n IdentityFile {first}\n IdentityFile {second}\n")
    with sshd(operator.far, "AuthenticationMethods publickey,publickey"):
        assert operator.who() == "root"
        operator.configure(f" IdentityFile {first}\n")
        with pytest.raises(AuthenticationFailed, match=rf"wants more than a key \(publickey\).*{first} \(accepted\)"):
            operator.who()


def test_a_gateway_is_shown_its_own_keys_first(operator: Operator, new_key: Callable[..., str]) -> None:
    """With one attempt each, the first key has to be the right one."""
    for_gateway, for_node, host = new_key(), new_key(), operator.far.record.host
    operator.authorise(for_gateway)
    if operator.far.run(["id", "ops"], check=False).status != 0:
        operator.far.add_login("ops")
    operator.authorise(for_node, "ops")
    pins = operator.folder / "known_hosts"
    pins.write_text(pins.read_text() + pins.read_text().replace(host, "inside"))
    inside = (
        "Host web\n HostName 127.0.0.1\n HostKeyAlias inside\n ProxyJump gate\n"
        f"Host gate\n HostName {host}\n User root\n IdentityFile {for_gateway}\n"
    )
    (operator.folder / "ssh_config").write_text(inside)
    with sshd(operator.far, "MaxAuthTries 1"):
        assert operator.who(user="ops", identity=for_node) == "ops"
    found = gateway_of(operator.target(user="ops", identity=for_node))
    assert found and found.identities[0] == for_gateway and for_node in found.identities
    (operator.folder / "ssh_config").write_text(f"{inside} IdentitiesOnly yes\n")
    found = gateway_of(operator.target(user="ops", identity=for_node))
    assert found and for_node not in found.identities


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


# Logins of a domain


def test_a_login_of_a_domain_gets_in(operator: Operator, new_key: Callable[..., str], tmp_path: Path) -> None:
    login, key = "ops@corp.example", new_key()
    if operator.far.run(["id", login], check=False).status != 0:
        operator.far.run(["useradd", "--badname", "--create-home", "--shell", "/bin/bash", "--", login])
    folder = f"/home/{login}/.ssh"
    operator.far.run(["install", "-d", "-m", "700", "-o", login, folder])
    operator.far.run(["/bin/sh", "-c", f"cat >{folder}/authorized_keys"], input=Path(f"{key}.pub").read_text())
    operator.configure(f" IdentityFile {key}\n")
    registry = tmp_path / "nodes.yaml"
    registry.write_text(f"nodes:\n  web:\n    host: web\n    user: {login}\n")
    target = resolve(Registry.load(registry).get("web"))
    connection = connect(target, secrets=Secrets())
    with connection:
        assert run_script(connection, "id -un").stdout.decode().strip() == login
        with pytest.raises(AuthenticationFailed) as caught:
            run_script(connection, "id -un", root=True)
        # The hint, run as it stands on the node, lets it become root.
        command = caught.value.hint.partition("on the node, as root: ")[2].partition("; or log in")[0]
        operator.far.run(["/bin/sh", "-c", command])
        operator.far.run(["visudo", "-c"])
        assert run_script(connection, "id -un", root=True).stdout.decode().strip() == "root"
    pasted = target.ssh_line("ssh -o BatchMode=yes", "id -un")
    options = f"-o UserKnownHostsFile={operator.folder}/known_hosts"
    done = subprocess.run(
        shlex.split(pasted.replace("ssh ", f"ssh {options} ", 1)), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == login
    assert replace(target, user="root").ssh_line("ssh").endswith("root@web")
