"""A login that sshd would never let in is said when it is made, by health and by the doctor, with what mends it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.agent.on_node.web1 import BOTH_RELEASES, Web1

pytestmark = BOTH_RELEASES
DROP_IN = "/etc/ssh/sshd_config.d/10-test.conf"
RELOAD = "systemctl reload ssh"
# Who prepares is let in, whatever holds for everybody else.
OPERATOR = """Match User root
  AuthorizedKeysFile .ssh/authorized_keys
  PubkeyAuthentication yes
  AuthenticationMethods publickey
  PubkeyAcceptedAlgorithms +ssh-ed25519"""
CONFIGURATIONS = {
    "keys elsewhere": ("AuthorizedKeysFile /etc/ssh/keys/%u", "AuthorizedKeysFile /etc/ssh/keys/%u"),
    "no keys at all": ("AuthorizedKeysFile none", "AuthorizedKeysFile none"),
    "an earlier block": ("Match User cs-*,x\n  AuthorizedKeysFile /k/%u", "AuthorizedKeysFile /k/%u"),
    "no keys taken": ("PubkeyAuthentication no", "PubkeyAuthentication no"),
    "a key and more": ("AuthenticationMethods publickey,password", "AuthenticationMethods publickey,password"),
    "some users": ("AllowUsers root ops", "AllowUsers (root ops)"),
    "some groups": ("AllowGroups root", "AllowGroups (root)"),
    "another command": ("Match User *,!root\n  ForceCommand /bin/false", "ForceCommand /bin/false"),
    "elsewhere": ("Match Group cs-*\n  ChrootDirectory /var/empty", "ChrootDirectory /var/empty"),
    "no such keys": ("PubkeyAcceptedAlgorithms rsa-sha2-*", "no keys of the kind ssh-ed25519"),
    "no sessions": ("Match User cs-*\n  MaxSessions 0", "MaxSessions 0"),
    "no terminal": ("Match User cs-*\n  PermitTTY no", "PermitTTY no"),
}
# What no Match block can undo.
BY_HAND = {
    "denied users": ("DenyUsers cs-*", "DenyUsers cs-*"),
    "denied users from everywhere": ("DenyUsers cs-*@*", "DenyUsers cs-*@*"),
    "denied groups": ("DenyGroups cs-d*", "DenyGroups cs-d*"),
}
WELL = {
    "in the home, said in full": "AuthorizedKeysFile %h/.ssh/authorized_keys",
    "in full without %h": "AuthorizedKeysFile /srv/codesmith/home/%u/.ssh/authorized_keys",
    "among several": "AuthorizedKeysFile /etc/ssh/keys/%u .ssh/authorized_keys",
    "one of several ways": "AuthenticationMethods publickey password,keyboard-interactive",
    "users by a pattern": "AllowUsers root cs-*",
    "others denied": "DenyUsers bob cs-bob cs-*@203.0.113.1",
    "some kinds of keys": "PubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-512",
    "others elsewhere": "Match User bob\n  AuthorizedKeysFile none\n  ForceCommand /bin/false",
    "commands for keys only": "Match User *,!cs-*,!root\n  ForceCommand /bin/false",
}


@contextmanager
def sshd(web1: Web1, text: str) -> Iterator[None]:
    web1.on(f"printf '%s\\n' '{OPERATOR}' 'Match all' '{text}' >{DROP_IN} && sshd -t && {RELOAD}")
    try:
        yield
    finally:
        web1.on(f"rm -f {DROP_IN} /etc/ssh/sshd_config.d/00-codesmith.conf; {RELOAD}")


def create(web1: Web1, name: str = "demo") -> str:
    """Make a workspace with the lab's key, and return what was said beside it."""
    identity = web1.person.lab_entry("web1")["identity"]
    return web1.person.runs(f"inv workspace.create {name} --ssh-key {identity}.pub").err


def seen(web1: Web1) -> tuple[dict[str, str], dict[str, str]]:
    """Return the row of doctor and the check of health that are about logins."""
    rows = web1.person.runs("inv node.doctor --json").json
    checks = web1.person.runs("inv node.health --json", check=False).json[0]["checks"]
    (row,) = [row for row in rows if row["code"] == "node.logins"]
    (check,) = [one for one in checks if one["name"] == "logins"]
    return row, check


def enters(web1: Web1) -> bool:
    entry = web1.person.lab_entry("web1")
    command = ["ssh", "-F", "none", "-i", entry["identity"], "-p", str(entry["port"]), "-o", "BatchMode=yes"]
    command += ["-o", f"UserKnownHostsFile={web1.person.registry.parent}/known_hosts", "-o", "ControlPath=none"]
    done = subprocess.run([*command, f"cs-demo@{entry['host']}", "echo in"], capture_output=True, text=True, timeout=60)
    return done.stdout == "in\n"


@pytest.fixture(autouse=True)
def _no_workspace(web1: Web1) -> Iterator[None]:
    yield
    web1.person.runs("inv workspace.delete demo", check=False)


@pytest.mark.parametrize(("text", "words"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_what_keeps_a_login_out_is_said_and_mended_by_the_hint(web1: Web1, text: str, words: str) -> None:
    with sshd(web1, text):
        said = create(web1)
        assert "warning: logins cannot work" in said
        assert words in said
        row, check = seen(web1)
        assert (row["status"], check["status"]) == ("warn", "degraded")
        assert words in row["detail"]
        assert words in check["detail"]
        web1.on(row["next"].removeprefix("on the node, as root: "))
        web1.person.wait_until(lambda: enters(web1), within_s=20)  # sshd starts anew
        row, check = seen(web1)
        assert (row["status"], check["status"]) == ("ok", "ok"), (row, check)


@pytest.mark.parametrize(("text", "words"), BY_HAND.values(), ids=BY_HAND)
def test_what_only_a_hand_can_undo_is_said(web1: Web1, text: str, words: str) -> None:
    with sshd(web1, text):
        assert words in create(web1)
        assert not enters(web1)


@pytest.mark.parametrize("text", WELL.values(), ids=WELL)
def test_what_lets_our_logins_in_is_no_warning(web1: Web1, text: str) -> None:
    with sshd(web1, text):
        assert "warning" not in create(web1)
        web1.person.wait_until(lambda: enters(web1), within_s=20)
        row, check = seen(web1)
        assert (row["status"], check["status"]) == ("ok", "ok"), (row, check)


def test_pam_that_refuses_is_said(web1: Web1) -> None:
    rules = "/etc/security/access.conf"
    wrong = f"echo 'account required pam_access.so' >>/etc/pam.d/sshd; echo '-:ALL EXCEPT root:ALL' >{rules}"
    with on_node(web1, wrong, f"sed -i '/pam_access/d' /etc/pam.d/sshd; : >{rules}"):
        assert "/etc/security/access.conf refuses it (-:ALL EXCEPT root:ALL)" in create(web1)
        assert not enters(web1)
    with on_node(web1, "touch /etc/nologin", "rm /etc/nologin"):
        assert not enters(web1)
        assert "/etc/nologin keeps everybody out" in seen(web1)[0]["detail"]
    assert enters(web1)


def test_groups_that_pam_gives_are_said(web1: Web1) -> None:
    rules, kept = "/etc/security/group.conf", "cp -p /etc/pam.d/sshd /etc/security/group.conf /root"
    wrong = f"{kept}; sed -i '1i auth optional pam_group.so' /etc/pam.d/sshd"
    right = f"cp -p /root/sshd /etc/pam.d/sshd; cp -p /root/group.conf {rules}"
    with on_node(web1, f"{wrong}; echo 'login|sshd;*;!root;Al0000-2400;audio, adm' >>{rules}", right):
        words = f"PAM puts logins into the group adm, audio ({rules})"
        assert words in create(web1)
        row, check = seen(web1)
        assert (row["status"], check["status"]) == ("warn", "degraded")
        assert words in row["detail"] and words in check["detail"]
        web1.on(f"cp -p /root/group.conf {rules}; echo 'su;*;*;Al0000-2400;adm' >>{rules}")
        web1.on(f"echo 'sshd;*;root|%adm;Al0000-2400;adm' >>{rules}")
        assert seen(web1)[0]["status"] == "ok"


def test_an_sshd_that_is_not_the_usual_one_is_asked(web1: Web1) -> None:
    config = "/etc/ssh/other_config"
    lines = "'Port 2222' 'Match User cs-*,x' ' AuthorizedKeysFile none' 'Match User x'"
    second = f"printf '%s\\n' {lines} >{config}; $(command -v sshd) -f {config}"
    with on_node(web1, second, f"pkill -o -f '^sshd: .*-f {config}'; rm {config}"):
        row, _ = seen(web1)
        assert f"-f {config}" in row["detail"]
        assert "another of 2 sshds lets it in" in row["detail"]
        assert config in row["next"]
        # The first block that names them counts: that of the hint stands before the one that is there.
        web1.on(row["next"].removeprefix("on the node, as root: "))
        web1.person.wait_until(lambda: seen(web1)[0]["status"] == "ok", within_s=20)


def test_an_sshd_that_does_not_say_is_not_one_that_lets_in(web1: Web1) -> None:
    # It runs on with what it read; the file has a mistake since.
    with on_node(web1, f"echo Nonsense yes >{DROP_IN}", f"rm {DROP_IN}"):
        row, check = seen(web1)
    assert (row["status"], check["status"]) == ("warn", "degraded")
    assert "sshd does not say whether logins work" in row["detail"]


def test_an_sshd_that_systemd_starts_for_each_login_is_asked(web1: Web1) -> None:
    web1.person.runs("inv node.disconnect --all")
    keys = f"printf '%s\\n' 'Match User cs-*' 'AuthorizedKeysFile none' >{DROP_IN}"
    by_systemd = "systemctl stop ssh.service; systemctl start ssh.socket"
    with on_node(
        web1, f"{keys}; {by_systemd}", f"rm {DROP_IN}; systemctl stop ssh.socket; systemctl start ssh.service"
    ):
        row, check = seen(web1)
        assert "AuthorizedKeysFile none" in row["detail"]
        assert check["status"] == "degraded"
        web1.person.runs("inv node.disconnect --all")


@contextmanager
def on_node(web1: Web1, wrong: str, right: str) -> Iterator[None]:
    web1.on(wrong)
    try:
        yield
    finally:
        web1.on(right)
