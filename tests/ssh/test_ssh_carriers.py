"""Which carrier is chosen, and what only OpenSSH supports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.errors import (
    AuthenticationFailed,
    CodeSmithError,
    HostKeyChanged,
    HostKeyUnknown,
    SecretRefused,
    Unreachable,
)
from codesmith.lab import LabNode
from codesmith.secrets import Secrets
from codesmith.ssh import connect as connecting
from codesmith.ssh.connect import fetch_host_key, recall
from codesmith.ssh.connection import FABRIC, OPENSSH
from codesmith.ssh.target import Target, resolve
from tests.kinds import some_of
from tests.ssh.carrier_desk import SECRET, Desk, changed, run, unknown, wrong_password
from tests.ssh_agent import running_agent

pytestmark = pytest.mark.lab
CHACHA, SNTRUP = "Ciphers chacha20-poly1305@openssh.com", "KexAlgorithms sntrup761x25519-sha512@openssh.com"


# What only OpenSSH manages


def constrained_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the agent uses for this node alone."""
    agent = desk.undo.enter_context(running_agent())
    key = desk.new_key("id_constrained")
    words = ["ssh-add", "-q", "-H", str(desk.folder / "known_hosts"), "-h", f"root@{desk.host}", key]
    subprocess.run(words, env=agent.environment, check=True, stderr=subprocess.DEVNULL)
    Path(key).unlink()
    Path(f"{key}.pub").unlink()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.path))
    desk.configure(f"Host web\n HostName {desk.host}\n IdentityFile none\n")


def descriptor_passing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ProxyCommand that passes a connected socket and ends."""
    program = desk.folder / "pass.py"
    program.write_text(
        "import array, socket, sys\n"
        "sock = socket.create_connection((sys.argv[1], 22))\n"
        "out = socket.socket(fileno=1)\n"
        "rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [sock.fileno()]))\n"
        "out.sendmsg([b'x'], [rights])\n"
    )
    proxy = f"ProxyCommand {sys.executable} {program} %h\n ProxyUseFdpass yes\n"
    desk.configure(f"Host web\n HostName {desk.host}\n IdentityFile {desk.identity}\n {proxy}")


def only(line: str) -> Callable[[Desk, pytest.MonkeyPatch], None]:
    """Return the setting that leaves sshd one algorithm."""
    return lambda desk, _: desk.sshd(line)


MORE = {
    "destination-constrained key": constrained_key,
    "ProxyUseFdpass": descriptor_passing,
    "chacha20 alone": only(CHACHA),
    "sntrup761 alone": only(SNTRUP),
}


@pytest.mark.parametrize("arrange", some_of(MORE, "destination-constrained key", "chacha20 alone"))
def test_what_paramiko_does_not_do_ends_at_openssh_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, arrange: Callable[[Desk, pytest.MonkeyPatch], None]
) -> None:
    arrange(desk, monkeypatch)
    target = resolve(desk.entry())
    with pytest.raises(CodeSmithError) as caught:
        run(replace(target, carrier=FABRIC))
    assert caught.value.hint == "in nodes.yaml: `ssh: openssh`, or no `ssh:` at all"
    assert run(target) == (OPENSSH, "root")
    assert recall(target)
    monkeypatch.setattr(connecting.fabric, "attempt", pytest.fail)
    assert run(target) == (OPENSSH, "root")


@pytest.mark.parametrize("line", [CHACHA, SNTRUP])
def test_a_host_key_that_paramiko_cannot_fetch_is_fetched(desk: Desk, line: str) -> None:
    expected = fetch_host_key(resolve(desk.entry()))
    desk.sshd(line)
    assert fetch_host_key(resolve(desk.entry())) == expected


def test_two_keys_are_given_where_sshd_wants_two(desk: Desk) -> None:
    second = desk.new_key("id_second")
    desk.sshd("AuthenticationMethods publickey,publickey")
    desk.configure(f"Host web\n HostName {desk.host}\n IdentityFile {desk.identity}\n IdentityFile {second}\n")
    assert run(resolve(desk.entry(ssh=OPENSSH))) == (OPENSSH, "root")
    assert run(resolve(desk.entry()))[1] == "root"


def test_a_gateway_may_need_openssh(desk: Desk) -> None:
    desk.sshd(CHACHA)
    behind = f"Host web\n HostName 127.0.0.1\n HostKeyAlias {desk.host}\n ProxyJump root@{desk.host}\n"
    desk.configure(f"{behind}Host *\n IdentityFile {desk.identity}\n")
    assert run(resolve(desk.entry())) == (OPENSSH, "root")


# The choice


def test_where_fabric_works_nothing_else_is_started_or_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    target = resolve(desk.entry())
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    assert run(target) == (FABRIC, "root")
    assert not recall(target)


def test_what_nodes_yaml_says_is_the_only_one_that_is_tried(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(resolve(desk.entry(ssh=OPENSSH))) == (OPENSSH, "root")
    monkeypatch.setattr(connecting.fabric, "attempt", pytest.fail)
    with pytest.raises(AuthenticationFailed):
        run(resolve(desk.entry(ssh=OPENSSH, user="nobody")))


SAME = {
    "unknown host key": (unknown, HostKeyUnknown),
    "changed host key": (changed, HostKeyChanged),
    "refused connection": (lambda desk: resolve(desk.entry(port=1)), Unreachable),
    "no such name": (lambda desk: resolve(desk.entry("nowhere.invalid")), Unreachable),
}


@pytest.mark.parametrize(("arrange", "kind"), SAME.values(), ids=SAME)
def test_what_would_be_the_same_with_openssh_is_not_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, arrange: Callable[[Desk], Target], kind: type[CodeSmithError]
) -> None:
    target = arrange(desk)
    monkeypatch.setattr(connecting.openssh, "attempt", pytest.fail)
    with pytest.raises(kind):
        run(target)


@pytest.mark.parametrize(("arrange", "kind"), SAME.values(), ids=SAME)
def test_both_carriers_give_the_same_errors(
    desk: Desk, arrange: Callable[[Desk], Target], kind: type[CodeSmithError]
) -> None:
    target, found = arrange(desk), []
    for carrier in (FABRIC, OPENSSH):
        with pytest.raises(kind) as caught:
            run(replace(target, carrier=carrier))
        found.append((type(caught.value), caught.value.problem, caught.value.hint))
    assert found[0] == found[1]


def test_a_wrong_password_is_given_once(desk: Desk, carrier: str) -> None:
    desk.sshd("KbdInteractiveAuthentication yes")
    target = replace(wrong_password(desk), carrier=carrier)
    before = failures(desk.node)
    with pytest.raises(SecretRefused):
        run(target, secrets=Secrets(lambda _: "wrong"))
    assert failures(desk.node) == before + 1
    assert run(target, secrets=Secrets(lambda _: SECRET)) == (carrier, "ops")


def failures(node: LabNode) -> int:
    node.run(["journalctl", "--sync"])
    said = node.run(["journalctl", "--output=cat"]).stdout
    return said.count("pam_unix(sshd:auth): authentication failure;")


def test_when_nothing_opens_the_first_carrier_says_why(desk: Desk) -> None:
    target = resolve(desk.entry(user="nobody"))
    with pytest.raises(AuthenticationFailed, match=r"sshd refused nobody") as caught:
        run(target)
    assert "sshd accepts a password" in caught.value.problem
    assert not recall(target)


def test_a_remembered_carrier_that_does_not_work_any_more_is_forgotten(desk: Desk) -> None:
    target = resolve(desk.entry())
    connecting.remember(target, "for this test")
    assert run(target) == (OPENSSH, "root")
    desk.configure(f"Host web\n HostName {desk.host}\n PubkeyAuthentication no\n IdentityFile {desk.identity}\n")
    assert run(target) == (FABRIC, "root")
    assert not recall(target)
