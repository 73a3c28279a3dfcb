"""Passphrases and passwords: asked for once, tried once, and never asked for if nobody can answer."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.secrets import SecretRequest, Secrets
from codesmith.ssh.connect import connect
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target, resolve
from tests.kinds import FABRIC_FIRST
from tests.ssh.remote_logins import add_login

PASSWORD, PASSPHRASE = "pässword of ops", "pässphrase of a key"


class Person:
    """Answers by kind, and remembers what was asked."""

    def __init__(self, **answers: str | None) -> None:
        self.answers, self.asked = answers, list[str]()

    def __call__(self, wanted: SecretRequest) -> str | None:
        self.asked.append(wanted.prompt)
        return self.answers.get(wanted.kind)


@pytest.fixture(scope="module")
def ops(node: LabNode) -> str:
    """A login with a password."""
    return add_login(node, "ops", password=PASSWORD)


@pytest.fixture
def target(target: Target, carrier: str) -> Target:
    """The target of the node, for each carrier in turn."""
    return replace(target, carrier=carrier)


@pytest.fixture
def by_password(target: Target, ops: str) -> Target:
    """The target of the node for somebody without a key."""
    return replace(target, user=ops, identities=())


@pytest.fixture
def locked_key(node: LabNode, tmp_path: Path) -> str:
    """A private key with a passphrase that logs in as root."""
    path = tmp_path / "id_locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", str(path)], check=True)
    keys = node.root / "root/.ssh/authorized_keys"
    keys.write_text(keys.read_text() + path.with_name("id_locked.pub").read_text())
    return str(path)


@pytest.fixture
def sshd(node: LabNode) -> Iterator[Callable[[str], None]]:
    """Set options of sshd for one test."""
    file = node.root / "etc/ssh/sshd_config.d/00-test.conf"
    # systemd counts the restarts, and gives up after some.
    again = "systemctl reset-failed ssh; systemctl restart ssh"

    def put(text: str) -> None:
        file.write_text(text + "\n")
        node.run(["/bin/sh", "-c", again])

    yield put
    file.unlink(missing_ok=True)
    node.run(["/bin/sh", "-c", again])


@pytest.fixture
def failed_logins(node: LabNode) -> Callable[[], int]:
    """Count the passwords that PAM refused since the test began."""
    cursor = node.run(["journalctl", "--lines=0", "--show-cursor", "--quiet"]).stdout.split("-- cursor: ")[-1].strip()

    def count() -> int:
        node.run(["journalctl", "--sync"])
        # Not of one unit or program: journald may find no process any more to ask which it was.
        said = node.run(["journalctl", f"--after-cursor={cursor}", "--output=cat"]).stdout
        return said.count("pam_unix(sshd:auth): authentication failure;")

    return count


def who(target: Target, secrets: Secrets) -> str:
    connection = connect(target, secrets=secrets)
    try:
        return run_script(connection, "id -un").stdout.decode().strip()
    finally:
        connection.close()


# Passphrases


def test_a_passphrase_is_asked_for_once_for_all_nodes(target: Target, locked_key: str) -> None:
    person = Person(passphrase=PASSPHRASE)
    secrets = Secrets(person)
    found: list[str] = []
    locked = replace(target, identities=(locked_key,))
    threads = [threading.Thread(target=lambda: found.append(who(locked, secrets))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["root"] * 4
    assert person.asked == [f"passphrase of the key {locked_key}: "]


def test_a_key_that_opens_without_a_passphrase_is_preferred(target: Target, locked_key: str) -> None:
    person = Person(passphrase=PASSPHRASE)
    assert who(replace(target, identities=(locked_key, *target.identities)), Secrets(person)) == "root"
    assert not person.asked


@FABRIC_FIRST
def test_a_wrong_passphrase_is_named_and_not_kept(target: Target, locked_key: str) -> None:
    person = Person(passphrase="wrong")
    secrets, locked = Secrets(person), replace(target, identities=(locked_key,), passwords=())
    with pytest.raises(SecretRefused, match=rf"not usable: {locked_key} \(wrong passphrase\)"):
        who(locked, secrets)
    assert len(person.asked) == 1
    person.answers["passphrase"] = PASSPHRASE
    assert who(locked, secrets) == "root"


def test_no_passphrase_is_asked_for_in_a_batch(target: Target, locked_key: str) -> None:
    person = Person(passphrase=PASSPHRASE)
    batch = replace(target, identities=(locked_key,), is_batch=True, passwords=())
    with pytest.raises(AuthenticationFailed, match=r"nobody is asked \(BatchMode\)"):
        who(batch, Secrets(person))
    assert not person.asked


# Passwords


def test_a_password_opens_where_no_key_does(by_password: Target, failed_logins: Callable[[], int]) -> None:
    person = Person(password=PASSWORD)
    secrets = Secrets(person)
    assert [who(by_password, secrets) for _ in range(2)] == ["ops", "ops"]
    assert person.asked == [f"{by_password.name}: password of ops ({by_password.host}:22): "]
    assert failed_logins() == 0


def test_a_wrong_password_is_tried_once(by_password: Target, failed_logins: Callable[[], int]) -> None:
    person = Person(password="wrong")
    with pytest.raises(SecretRefused, match=r"the password was refused \(tried once\)"):
        who(by_password, Secrets(person))
    assert (len(person.asked), failed_logins()) == (1, 1)


def test_without_somebody_to_ask_nothing_is_tried(by_password: Target, failed_logins: Callable[[], int]) -> None:
    for secrets in (Secrets(), Secrets(Person(password=None)), Secrets(Person(password=""))):
        with pytest.raises(AuthenticationFailed, match="sshd refused ops; tried: no key") as error:
            who(by_password, secrets)
        assert error.value.hint.startswith("ssh-copy-id")
    assert failed_logins() == 0


def test_a_password_is_not_asked_for_where_a_key_opens(target: Target, ops: str) -> None:
    person = Person(password=PASSWORD)
    assert who(replace(target, user=ops), Secrets(person)) == ops
    assert not person.asked


def test_a_password_is_not_asked_for_where_sshd_takes_none(by_password: Target, sshd: Callable[[str], None]) -> None:
    sshd("PasswordAuthentication no\nKbdInteractiveAuthentication no")
    person = Person(password=PASSWORD)
    with pytest.raises(AuthenticationFailed, match="sshd refused ops") as error:
        who(by_password, Secrets(person))
    assert not isinstance(error.value, SecretNeeded)
    assert not person.asked


def test_questions_of_sshd_are_answered(
    by_password: Target, sshd: Callable[[str], None], failed_logins: Callable[[], int]
) -> None:
    sshd("PasswordAuthentication no\nChallengeResponseAuthentication yes")
    assert who(by_password, Secrets(Person(password=PASSWORD))) == "ops"
    with pytest.raises(SecretNeeded):
        who(by_password, Secrets())
    assert failed_logins() == 0
    with pytest.raises(SecretRefused):
        who(by_password, Secrets(Person(password="wrong")))
    assert failed_logins() == 1


@FABRIC_FIRST
def test_what_sshd_says_need_not_be_utf8(node: LabNode, by_password: Target, sshd: Callable[[str], None]) -> None:
    """Its banner, and PAM's message before the question."""
    (node.root / "etc/latin1").write_bytes("Vérifié: password: \n".encode("latin-1"))
    rules = node.root / "etc/pam.d/sshd"
    before = rules.read_text()
    rules.write_text(f"auth optional pam_echo.so file=/etc/latin1\n{before}")
    try:
        sshd("PasswordAuthentication no\nChallengeResponseAuthentication yes\nBanner /etc/latin1")
        assert who(by_password, Secrets(Person(password=PASSWORD))) == "ops"
    finally:
        rules.write_text(before)


def test_a_key_and_a_password_are_both_given_where_sshd_wants_both(
    target: Target, ops: str, sshd: Callable[[str], None]
) -> None:
    sshd("AuthenticationMethods publickey,password")
    both = replace(target, user=ops)
    assert who(both, Secrets(Person(password=PASSWORD))) == ops
    with pytest.raises(AuthenticationFailed, match=r"wants more than a key \(password\)"):
        who(replace(both, passwords=()), Secrets())


def test_the_password_of_a_gateway_is_asked_for(target: Target, by_password: Target, ssh_config: Path) -> None:
    ssh_config.write_text("IdentityFile none\n")
    jump = f"ops@{target.host}:{target.port}"
    through = replace(by_password, host="127.0.0.1", host_key_alias=target.host, proxy_jump=jump)
    person = Person(password=PASSWORD)
    assert who(through, Secrets(person)) == "ops"
    assert [prompt.partition(":")[0] for prompt in person.asked] == [f"{target.name} via {target.host}", target.name]


# What ssh_config says


@pytest.mark.parametrize(
    ("config", "passwords", "is_batch"),
    [
        ("", ("password", "keyboard-interactive"), False),
        ("BatchMode yes", (), True),
        ("PasswordAuthentication no", ("keyboard-interactive",), False),
        ("KbdInteractiveAuthentication no", ("password",), False),
        ("PreferredAuthentications publickey", (), False),
        ("PreferredAuthentications keyboard-interactive,password", ("keyboard-interactive", "password"), False),
    ],
)
def test_ssh_config_says_which_passwords_are_asked_for(
    tmp_path: Path, ssh_config: Path, config: str, passwords: tuple[str, ...], is_batch: bool
) -> None:
    ssh_config.write_text(f"Host *\n {config}\n")
    found = resolve(Node("web1", tmp_path / "nodes.yaml", "web"))
    assert (found.passwords, found.is_batch) == (passwords, is_batch)
