"""The door of people who have only a key: open only while the node's sshd does what it must, and who says why not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from agent.shared import sshd_door
from codesmith.bootstrap import apply as applying
from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap.prepare import prepare
from codesmith.bootstrap.uninstall import uninstall
from codesmith.bootstrap.verify import verify
from codesmith.doctor.node import check_node
from codesmith.errors import Unproven
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.node_side import call, ledger_of, listing, sh
from tests.kinds import some_of
from tests.releases import TRIXIE_FIRST
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("same_agent")
AsNode = Callable[..., Node]
FIRST = "/etc/ssh/sshd_config.d/00-tests.conf"
KEY = "/root/way-in"
SSH = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR"


def is_let_in(node: LabNode) -> bool:
    """Whether sshd lets the key in: then `enter` answers, here that she has no workspace."""
    ssh = f"ssh {SSH} -i {KEY} cs-ann@127.0.0.1 true 2>&1"
    return sh(node, f"if {ssh} | grep -q '^codesmith: '; then echo yes; fi") == "yes"


def prepared(node: Node) -> tuple[list[str], str]:
    """Prepare, and return the kinds of its steps and all that it said."""
    said: list[str] = []
    done = prepare(node, on_progress=lambda one: said.append(f"{one.text} {one.message}"))
    return [step.kind for step in done.steps], "\n".join(said)


@pytest.fixture
def node_with_ann(any_node: LabNode, as_node: AsNode) -> Node:
    """The node, prepared, with a user who has a key; many refused logins from one address are no reason to wait."""
    node = as_node(any_node)
    prepare(node)
    if not call(any_node, "user.list"):
        sh(any_node, f"mkdir -p -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -f {KEY}")
        call(any_node, "user.create", name="ann", ssh_keys=[sh(any_node, f"cat {KEY}.pub")])
        quiet = "echo PerSourcePenalties no >/etc/ssh/sshd_config.d/99-tests.conf"
        sh(any_node, f"if sshd -T | grep -qi persourcepenalties; then {quiet}; fi")
        reload(any_node)
    return node


def reload(node: LabNode) -> None:
    sh(node, "systemctl reload ssh")
    eventually(lambda: sh(node, "ssh-keyscan 127.0.0.1 2>/dev/null || true") != "")


# What an administrator may have written: in a file that sshd reads before ours, and the keyword that is named.
OBSTACLES = {
    "a forced command": ("Match User cs-*\n ForceCommand /bin/true", "forcecommand"),
    "forwarding": ("Match Group codesmith-logins\n AllowTcpForwarding yes", "allowtcpforwarding"),
    "another file of keys": ("Match User cs-*\n AuthorizedKeysFile /etc/ssh/keys/%u", "authorizedkeysfile"),
    "a command that gives keys": (
        "Match User *\n AuthorizedKeysCommand /usr/bin/true\n AuthorizedKeysCommandUser nobody",
        "authorizedkeyscommand",
    ),
    "a CA": ("Match all\n TrustedUserCAKeys /root/way-in.pub\nMatch all", "trustedusercakeys"),
    "passwords": ("Match Address 198.18.0.0/15\n PasswordAuthentication yes", "passwordauthentication"),
    "a loader's variables": ("Match User cs-*\n AcceptEnv LD_*", "acceptenv"),
    "one user's block": ("Match User cs-ann\n PermitUserRC yes", "permituserrc"),
    "another port": ("Match LocalPort 2222\n ForceCommand internal-sftp", "forcecommand"),
    "another network": ("Match Address=10.0.0.0/8 Group *\n DisableForwarding no", "disableforwarding"),
    "environment of users": ("PermitUserEnvironment yes", "permituserenvironment"),
    "allowed groups": ("AllowGroups root staff", "AllowGroups"),
    "allowed users": ("AllowUsers root", "AllowUsers"),
    "denied users": ("DenyUsers cs-a*", "DenyUsers"),
    "denied groups": ("DenyGroups codesmith-*", "DenyGroups"),
}  # fmt: skip


@TRIXIE_FIRST
@pytest.mark.parametrize(("text", "keyword"), some_of(OBSTACLES, "allowed groups"))
def test_what_wins_over_our_settings_shuts_the_door_and_everybody_names_it(
    any_node: LabNode, node_with_ann: Node, text: str, keyword: str
) -> None:
    assert is_let_in(any_node)
    sh(any_node, f"printf '%s\\n' {text!r} | sed 's/\\\\n/\\n/g' >{FIRST}")
    reload(any_node)
    try:
        assert_shut(any_node, node_with_ann, keyword)
    finally:
        sh(any_node, f"rm {FIRST}")
        reload(any_node)
    kinds, said = prepared(node_with_ann)
    assert (kinds, "shut" in said) == (["door", "login"], False)
    assert is_let_in(any_node)
    assert prepared(node_with_ann)[0] == []


@TRIXIE_FIRST
def test_a_block_for_one_of_many_logins_is_seen(any_node: LabNode, node_with_ann: Node) -> None:
    """One login of each kind is looked at, and not the first ones alone."""
    others = ",".join(f"cs-b{number:02}" for number in range(60))
    call(any_node, "user.create", name="zoe")
    sh(any_node, f"cp -p /etc/group /root/; sed -i 's/^codesmith-logins:.*/&,{others}/' /etc/group")
    sh(any_node, f"printf 'Match User cs-zoe\n PermitUserRC yes\n' >{FIRST}")
    try:
        found = json.loads(sh(any_node, f"python3 -IS {layout.program_of(layout.CURRENT)} report"))["door"]["problems"]
        assert [one["problem"] for one in found] == ["permituserrc is yes for cs-zoe, and must be no"]
    finally:
        sh(any_node, f"rm {FIRST}; cp -p /root/group /etc/group")
    call(any_node, "user.delete", name="zoe")
    assert prepared(node_with_ann)[0] == []


@TRIXIE_FIRST
def test_a_replaced_sshd_config_that_reads_no_other_file_shuts_the_door(any_node: LabNode, node_with_ann: Node) -> None:
    sh(any_node, "cp -p /etc/ssh/sshd_config /root/; sed -i '/^Include/d' /etc/ssh/sshd_config")
    reload(any_node)
    assert_shut(any_node, node_with_ann, "Include")
    sh(any_node, "cp -p /root/sshd_config /etc/ssh/")
    reload(any_node)
    assert prepared(node_with_ann)[0] == ["door", "login"]
    assert is_let_in(any_node)


def assert_shut(any_node: LabNode, node: Node, keyword: str) -> None:
    """Prepare shuts the door and says why; so do health, verify and doctor; the account is closed as if disabled."""
    before = sh(any_node, "cd /etc/ssh; find . -type f | sort | xargs sha256sum")
    health = {one["name"]: one for one in call(any_node, "node.health")["checks"]}["door"]
    assert health["status"] == "degraded"
    assert "open, and sshd does not do what it must" in health["detail"]
    kinds, said = prepared(node)
    assert kinds == ["door", "login"]
    assert f"is shut, and the accounts stay closed: {named(keyword)}" in said.replace("sshd does not read", "Include")
    assert prepared(node)[0] == []
    assert json.loads(sh(any_node, f"cat {door_files.STATE}")) == {"open": False}
    assert sh(any_node, "getent passwd cs-ann").endswith(":/usr/sbin/nologin")
    assert sh(any_node, "getent shadow cs-ann | cut -d: -f2,8") == "!*:1"
    assert not is_let_in(any_node)
    (finding,) = [one for one in verify(node) if one.status != "ok"]
    assert (finding.kind, finding.name, finding.status) == ("door", keyword, "unsupported")
    (found,) = [one for one in check_node(node) if one.code == "node.door"]
    assert found.status == "warn"
    assert found.next
    health = {one["name"]: one for one in call(any_node, "node.health")["checks"]}["door"]
    assert health["detail"].startswith("shut: ")
    # A user who comes meanwhile is shut out as well.
    call(any_node, "user.create", name="bob", ssh_keys=[sh(any_node, f"cat {KEY}.pub")])
    assert sh(any_node, "getent shadow cs-bob | cut -d: -f2,8") == "!*:1"
    call(any_node, "user.delete", name="bob")
    assert sh(any_node, "cd /etc/ssh; find . -type f | sort | xargs sha256sum") == before


def named(keyword: str) -> str:
    return f"{keyword} " if keyword != "acceptenv" else "acceptenv lets LD_* in"


@TRIXIE_FIRST
def test_what_the_node_has_for_everybody_else_is_no_obstacle(any_node: LabNode, node_with_ann: Node) -> None:
    lines = (
        "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u", "AuthorizedKeysCommand /usr/bin/true",
        "AuthorizedKeysCommandUser nobody", "TrustedUserCAKeys /root/way-in.pub", "PasswordAuthentication yes",
        "AllowTcpForwarding yes", "X11Forwarding yes", "GSSAPIAuthentication yes", "KerberosAuthentication yes",
        "AcceptEnv LD_*", "AllowGroups root codesmith-logins", "Match User root", " ForceCommand none",
        "Match Address 10.0.0.0/8 Group sftponly", " ForceCommand internal-sftp",
        "Match LocalPort 2222", " Banner none", "Match all",
    )  # fmt: skip
    for line in lines:
        sh(any_node, f"echo {line!r} >>{FIRST}")
    reload(any_node)
    assert prepared(node_with_ann)[0] == []
    assert is_let_in(any_node)
    # What it lets in with is a key, whatever others may use.
    asked = f"ssh {SSH} -v -o PreferredAuthentications=none cs-ann@127.0.0.1 true 2>&1 || true"
    assert "Permission denied (publickey)." in sh(any_node, asked)
    sh(any_node, f"rm {FIRST}")
    reload(any_node)


@TRIXIE_FIRST
def test_an_sshd_config_that_sshd_refuses_changes_nothing(any_node: LabNode, node_with_ann: Node) -> None:
    sh(any_node, f"rm {door_files.SSHD_SETTINGS}; echo Nonsense yes >{FIRST}")
    kinds, said = prepared(node_with_ann)
    assert kinds == ["door", "login"]
    assert "sshd -t" in said
    assert "nothing of sshd was changed" in said
    assert sh(any_node, f"ls {door_files.SSHD_SETTINGS} 2>/dev/null || true") == ""
    assert not is_let_in(any_node)
    sh(any_node, f"rm {FIRST}")
    assert prepared(node_with_ann)[0] == ["door", "login"]
    assert is_let_in(any_node)


@TRIXIE_FIRST
def test_sessions_stay_while_sshd_reads_its_settings(any_node: LabNode, node_with_ann: Node) -> None:
    pid = sh(any_node, "systemctl show --property=MainPID --value ssh")
    sh(any_node, f"echo '# changed' >>{door_files.SSHD_SETTINGS}")
    assert prepared(node_with_ann)[0] == ["door", "login"]  # over one connection
    assert sh(any_node, "systemctl show --property=MainPID --value ssh") == pid
    assert is_let_in(any_node)


# Sent before the program: kills it when it is about to reload sshd.
KILL = """
import os, sys
def hook(event, args):
    if event == "subprocess.Popen" and "reload" in args[1]:
        os.kill(os.getpid(), 9)
sys.addaudithook(hook)
"""


@TRIXIE_FIRST
def test_settings_that_sshd_has_not_read_open_no_door(
    any_node: LabNode, node_with_ann: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sh(any_node, f"echo '# other' >{door_files.SSHD_SETTINGS}")
    reload(any_node)
    with monkeypatch.context() as patch, pytest.raises(Unproven):
        program = applying.program
        patch.setattr(applying, "program", lambda name: KILL + program(name))
        prepare(node_with_ann)
    assert not is_let_in(any_node)
    assert json.loads(sh(any_node, f"cat {door_files.STATE}")) == {"open": False}
    assert prepared(node_with_ann)[0] == ["door", "login"]
    assert is_let_in(any_node)
    assert prepared(node_with_ann)[0] == []


@TRIXIE_FIRST
def test_a_reload_that_fails_changes_nothing_of_sshd_and_is_tried_again(any_node: LabNode, node_with_ann: Node) -> None:
    folder = "/run/systemd/system/ssh.service.d"
    sh(any_node, f"echo '# other' >{door_files.SSHD_SETTINGS}; mkdir -p {folder}")
    sh(any_node, f"printf '[Service]\nExecReload=\nExecReload=false\n' >{folder}/x.conf; systemctl daemon-reload")
    for _ in range(2):
        kinds, said = prepared(node_with_ann)
        assert (kinds, "nothing of sshd was changed" in said) == (["door", "login"], True)
        assert sh(any_node, f"cat {door_files.SSHD_SETTINGS}") == "# other"
    sh(any_node, f"rm -r {folder}; systemctl daemon-reload")
    assert prepared(node_with_ann)[0] == ["door", "login"]
    assert is_let_in(any_node)
    assert prepared(node_with_ann)[0] == []


@TRIXIE_FIRST
def test_git_hosts_of_nodes_yaml_are_on_the_node_as_long_as_they_are_there(
    any_node: LabNode, node_with_ann: Node, as_node: AsNode
) -> None:
    named = as_node(any_node, git_hosts=("git.example.org", "10.0.0.7:8443"))
    prepare(named)
    assert sh(any_node, f"cat {door_files.GIT_HOSTS}") == "git.example.org\n10.0.0.7:8443"
    assert prepare(named).steps == ()
    assert [one for one in verify(named) if one.status != "ok"] == []
    sh(any_node, f"echo evil.example >>{door_files.GIT_HOSTS}")
    assert [(one.name, one.status) for one in verify(named) if one.status != "ok"] == [
        (door_files.GIT_HOSTS, "changed")
    ]
    assert [step.name for step in prepare(named).steps] == [door_files.GIT_HOSTS]
    prepare(node_with_ann)
    assert sh(any_node, f"ls {door_files.GIT_HOSTS} 2>/dev/null || true") == ""
    assert prepare(node_with_ann).steps == ()


@TRIXIE_FIRST
def test_all_that_belongs_to_the_door_is_in_the_ledger_and_goes_with_it(
    any_node: LabNode, node_with_ann: Node, as_node: AsNode
) -> None:
    named = as_node(any_node, git_hosts=("git.example.org",))
    prepare(named)
    entries = {one.get("path") or one.get("name"): one for one in ledger_of(any_node)["entries"]}
    ours = {
        *door_files.door_files(),
        door_files.GIT_HOSTS,
        door_files.STATE,
        door_files.USER_UNIT_FOLDER,
        layout.KEYS_FOLDER,
        layout.LOGINS_FOLDER,
        layout.LOGINS,
    }
    assert ours <= set(entries)
    assert sh(any_node, f"stat -c '%a %U:%G' {door_files.ENTER}") == "755 root:root"
    uninstall(named, purge=True)
    assert not any(layout.LOGINS in line or "codesmith" in line for line in listing(any_node))
    settings = sh(any_node, f"sshd -T -C user={sshd_door.NOBODY},host=x,addr=198.18.0.1 | grep -i forcecommand")
    assert settings == "forcecommand none"
    assert "codesmith" not in sh(any_node, "systemctl cat user@0.service")
    assert sh(any_node, "getent group codesmith-logins || true") == ""


@pytest.mark.long
@pytest.mark.parametrize("release", ["bullseye"], scope="module")
def test_the_door_opens_on_bullseye_too(any_node: LabNode, node_with_ann: Node) -> None:
    assert is_let_in(any_node)
    assert prepared(node_with_ann)[0] == []
    for text, keyword in (OBSTACLES["allowed groups"], OBSTACLES["another port"]):
        sh(any_node, f"echo '{text}' >{FIRST}")
        reload(any_node)
        assert_shut(any_node, node_with_ann, keyword)
        sh(any_node, f"rm {FIRST}")
        reload(any_node)
        prepare(node_with_ann)
    call(any_node, "user.disable", name="ann")
    assert not is_let_in(any_node)
    uninstall(node_with_ann, purge=True)
    assert not any("codesmith" in line for line in listing(any_node))


def test_the_settings_say_what_the_comparison_expects() -> None:
    said = {line.split()[0].lower(): " ".join(line.split()[1:]) for line in door_files.SETTINGS}
    accepted = set(said.pop("acceptenv").split())
    assert accepted == set(sshd_door.ACCEPTED)
    assert said.items() <= sshd_door.EXPECTED.items()
    # sshd allows it in no Match block.
    assert set(sshd_door.EXPECTED) - set(said) == {"permituserenvironment"}
    assert f"Match User {sshd_door.NOBODY}\n" in door_files.door_files()[door_files.SSHD_SETTINGS].text
