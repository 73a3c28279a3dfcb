"""Every way in which sshd ends a login: the error quotes its reason. On real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.doctor.node import check_node
from codesmith.errors import AuthenticationFailed, CodeSmithError, SecretRefused, Unreachable
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.secrets import Secrets
from codesmith.ssh.connect import connect
from codesmith.ssh.script import ScriptGarbled, run_script
from codesmith.ssh.target import Target, resolve
from tests.kinds import some_names_of
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
PASSWORD = "right"
RESTART = "systemctl reset-failed ssh; systemctl restart ssh"
SSHD = "/etc/ssh/sshd_config.d/00-test.conf"
PAM = "/etc/pam.d/sshd"
EXPIRED_PASSWORD = r"the password of ops has expired.*Password change required but no TTY"


@pytest.fixture(scope="module")
def far(any_node: LabNode) -> LabNode:
    """A node with a login that has a key and a password; its sshd does not punish failed logins."""
    any_node.add_login("ops", password=PASSWORD)
    if any_node.release == "trixie":
        (any_node.root / "etc/ssh/sshd_config.d/00-penalties.conf").write_text("PerSourcePenalties no\n")
    any_node.run(["/bin/sh", "-c", RESTART])
    return any_node


@pytest.fixture
def entry(far: LabNode, tmp_path: Path, carrier: str) -> Node:
    """The node of that login, with each carrier in turn."""
    return Node(far.name, tmp_path / "nodes.yaml", lab=far.release, user="ops", ssh=carrier)


@pytest.fixture
def target(entry: Node) -> Target:
    """The target of that login."""
    return resolve(entry)


@contextmanager
def made(far: LabNode, do: str, undo: str) -> Iterator[None]:
    """Change a node for the length of the block."""
    far.run(["/bin/sh", "-c", do])
    try:
        yield
    finally:
        far.run(["/bin/sh", "-c", undo])


def sshd(text: str) -> tuple[str, str]:
    return f"printf '{text}\\n' >{SSHD}; {RESTART}", f"rm {SSHD}; {RESTART}"


def pam(*lines: str) -> tuple[str, str]:
    rules = "".join(f"sed -i '1i {line}' {PAM}; " for line in lines)
    return f"cp -p {PAM} /etc/pam.before; {rules}", f"mv /etc/pam.before {PAM}"


def limit(line: str) -> tuple[str, str]:
    return f"echo 'ops hard {line}' >/etc/security/limits.d/ops.conf", "rm /etc/security/limits.d/ops.conf"


def shell(path: str) -> tuple[str, str]:
    return f"usermod -s {path} ops", "usermod -s /bin/bash ops"


# What is so on the node, the error, what it says, and where doctor says it
Ending = tuple[tuple[str, str], type[CodeSmithError], str, str]
ENDINGS: dict[str, Ending] = {
    "/etc/nologin": (
        ("echo 'Down for work' >/etc/nologin", "rm /etc/nologin"),
        AuthenticationFailed, r"sshd there ended the login; it said: Down for work; tried", "ssh.login",
    ),
    "expired account": (
        ("chage -E 1 ops", "chage -E -1 ops"),
        AuthenticationFailed, r"it said: Your account has expired; please contact", "ssh.login",
    ),
    "expired password": (
        ("chage -M 1 -d 2020-01-01 ops", "chage -M -1 -d 2026-11-01 ops"),
        AuthenticationFailed, EXPIRED_PASSWORD, "ssh.login",
    ),
    "password to be changed": (
        ("chage -d 0 ops", "chage -d 2026-11-01 ops"), AuthenticationFailed, EXPIRED_PASSWORD, "ssh.login",
    ),
    "PAM says no": (
        pam("account required pam_deny.so"), AuthenticationFailed, r"ended the login without a reason.*PAM",
        "ssh.login",
    ),
    "PAM says why, in colour": (
        (
            f"printf 'you are \\033[31mbanned\\n' >/etc/why; {pam('account required pam_deny.so')[0]}"
            f"sed -i '1i account required pam_echo.so file=/etc/why' {PAM}",
            pam()[1],
        ),
        AuthenticationFailed, r"it said: you are \[31mbanned; tried", "ssh.login",
    ),
    "no session by PAM": (
        pam("session required pam_deny.so"), AuthenticationFailed, r"opens no session for ops", "ssh.login",
    ),
    "maxlogins": (limit("maxlogins 0"), AuthenticationFailed, r"There were too many logins for .ops.", "ssh.login"),
    "no PAM, /etc/nologin": (
        (f"echo Down >/etc/nologin; {sshd('UsePAM no')[0]}", f"rm /etc/nologin; {sshd('')[1]}"),
        AuthenticationFailed, r"opens no session for ops.*it said: Down", "ssh.login",
    ),
    "AllowUsers": (sshd("AllowUsers nobody"), AuthenticationFailed, r"sshd refused ops; tried: /", "ssh.login"),
    "no such shell": (shell("/bin/gone"), AuthenticationFailed, r"sshd refused ops; tried: /", "ssh.login"),
    "nologin": (shell("/usr/sbin/nologin"), ScriptGarbled, r"account is currently not available\.", "ssh.shell"),
    "false": (shell("/bin/false"), ScriptGarbled, r"it said: nothing, and ended with status 1", "ssh.shell"),
    "ForceCommand": (
        sshd("ForceCommand echo go away; exit 3"),
        ScriptGarbled, r"it said: go away, and ended with status 3", "ssh.shell",
    ),
    "no processes": (limit("nproc 0"), Unreachable, r"its sshd starts no session", "ssh.shell"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    some_names_of(
        ENDINGS,
        "/etc/nologin",
        "expired account",
        "password to be changed",
        "PAM says why, in colour",
        "AllowUsers",
        "nologin",
        "ForceCommand",
        "no processes",
    ),
)
def test_an_ending_has_one_meaning(far: LabNode, entry: Node, target: Target, name: str) -> None:
    how, kind, words, code = ENDINGS[name]
    with made(far, *how):
        with pytest.raises(kind, match=words) as caught:
            who(target)
        assert "too many keys" not in caught.value.problem and "MaxAuthTries" not in caught.value.problem
        assert caught.value.problem.isprintable() and caught.value.hint
        (found,) = [one for one in check_node(entry) if one.status == "fail"]
        assert (found.code, found.detail) == (code, caught.value.problem)
    assert who(target) == "ops"


def who(target: Target, secrets: Secrets | None = None) -> str:
    connection = connect(target, secrets=secrets or Secrets())
    try:
        return run_script(connection, "id -un").stdout.decode().strip()
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["/etc/nologin", "expired account", "PAM says no"])
def test_a_right_password_is_not_called_wrong(far: LabNode, target: Target, name: str) -> None:
    how, kind, words, _ = ENDINGS[name]
    with made(far, *how), pytest.raises(kind, match=words) as caught:
        who(replace(target, identities=()), Secrets(lambda _: PASSWORD))
    assert not isinstance(caught.value, SecretRefused)


def test_a_password_that_sshd_wants_changed_at_login_is_told(far: LabNode, target: Target) -> None:
    """By keyboard-interactive PAM asks for a new one at once; the old one is not given for it."""
    questions, after = sshd("PasswordAuthentication no\\nKbdInteractiveAuthentication yes\\nUsePAM yes")
    expiry = ENDINGS["password to be changed"][0]
    asked: list[str] = []

    def answer(wanted: object) -> str:
        asked.append(str(wanted))
        return PASSWORD

    without_key = replace(target, identities=(), passwords=("keyboard-interactive",))
    with made(far, questions, after):
        expired = pytest.raises(AuthenticationFailed, match=r"the password has expired, and sshd wants a new one")
        with made(far, *expiry), expired as caught:
            who(without_key, Secrets(answer))
        assert len(asked) == 1
        assert caught.value.hint.startswith("ssh -t ")
        assert who(without_key, Secrets(answer)) == "ops"


def test_a_home_that_is_gone_is_no_end(far: LabNode, target: Target) -> None:
    keys, after = sshd("AuthorizedKeysFile /etc/keys-of-%%u")
    with made(far, f"cp -p /home/ops/.ssh/authorized_keys /etc/keys-of-ops; mv /home/ops /home/gone; {keys}", "true"):
        try:
            assert who(target) == "ops"
        finally:
            far.run(["/bin/sh", "-c", f"mv /home/gone /home/ops; {after}"])


def test_a_banner_of_the_law_is_told_once_and_short(far: LabNode, target: Target, new_key: Callable[[], str]) -> None:
    how = sshd("Banner /etc/law")
    with made(far, f"yes 'Keep out. ' | head -n 500 >/etc/law; {how[0]}", how[1]):
        assert who(target) == "ops"
        with pytest.raises(AuthenticationFailed, match=r"sshd refused ops; tried: /") as caught:
            who(replace(target, identities=(new_key(),)))
        assert len(caught.value.problem) < 1000


@pytest.mark.parametrize(("tries", "keys", "is_told"), [(1, 1, False), (2, 3, True)])
def test_too_many_attempts_are_told_where_there_were_some(
    far: LabNode, target: Target, new_key: Callable[[], str], tries: int, keys: int, is_told: bool
) -> None:
    with made(far, *sshd(f"MaxAuthTries {tries}")):
        with pytest.raises(
            AuthenticationFailed, match=r"too many attempts \(MaxAuthTries\); it said: Too many"
        ) as caught:
            who(replace(target, identities=tuple(new_key() for _ in range(keys))))
    assert ("IdentitiesOnly" in caught.value.hint) is is_told
