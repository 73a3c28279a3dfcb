"""Every key that plain `ssh` would offer is offered: either half, every format, from file and agent."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from codesmith.errors import AuthenticationFailed
from codesmith.nodes.registry import Registry
from codesmith.secrets import Secrets
from codesmith.ssh.fabric_connection import connect
from codesmith.ssh.gateway import gateway_of
from codesmith.ssh.script import run_script
from codesmith.ssh.target import resolve
from tests.releases import TRIXIE_FIRST
from tests.ssh.ssh_operator import TYPES, Operator, ssh_agent, sshd

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]


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
