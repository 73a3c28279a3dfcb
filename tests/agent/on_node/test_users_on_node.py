"""The life of a user on a real node: keys, disable, enable, deletion without traces; other accounts are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.on_node.web1 import Web1, command
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]


def as_user(web1: Web1, login: str, script: str, *, check: bool = True) -> str:
    become = f"setpriv --reuid={login} --regid={login} --clear-groups"
    return web1.on(f"cd /; {become} env HOME=/srv/codesmith/home/{login} sh -c '{script}'", check=check).out


def is_running(web1: Web1, words: str) -> bool:
    return web1.on(f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '[{words[0]}]{words[1:]}'", check=False).ok


PLACES = " ".join(f"/srv/codesmith/workspaces/off{one} /srv/codesmith/home/cs-off{one}" for one in (1, 2))
STATE = f"getent passwd cs-off cs-off1; getent shadow cs-off cs-off1; stat -c '%U %G %a %n' {PLACES}; ls -lR {PLACES}"


def test_disable_ends_all_that_runs_and_enable_restores_exactly(web1: Web1) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
    web1.client.user.create(name="off", ssh_keys=[key])
    for workspace in ("off1", "off2"):
        web1.client.workspace.create(name=workspace, user="off")
        assert web1.client.workspace.exec(name=workspace, argv=["sh", "-c", "echo a >~/file"]).exit_code == 0
    web1.on("chmod 750 /srv/codesmith/home/cs-off1; chgrp www-data /srv/codesmith/workspaces/off2")
    web1.on("chmod 2711 /srv/codesmith/workspaces/off2")
    web1.on("systemd-run --collect --unit offjob --uid=cs-off1 sh -c 'trap \"\" TERM; sleep 3002; sleep 3002'")
    as_user(web1, "cs-off2", "setsid sleep 3001 >/dev/null 2>&1 &")
    before = web1.on(STATE).out
    assert "cs-off2 www-data 2711 /srv/codesmith/workspaces/off2" in before
    web1.person.wait_until(lambda: is_running(web1, "sleep 3001"), within_s=20)
    web1.person.wait_until(lambda: is_running(web1, "sleep 3002"), within_s=20)

    assert web1.client.user.disable(name="off").state == "disabled"

    assert not web1.on("ps -o pid= -u cs-off,cs-off1,cs-off2 -U cs-off,cs-off1,cs-off2", check=False).out
    assert web1.on(f"stat -c '%U %a' {PLACES}").out == "root 0\n" * 4
    for workspace in ("off1", "off2"):
        web1.refuses(web1.client.workspace.exec, "disabled", name=workspace, argv=["id"])
    web1.refuses(web1.client.workspace.create, "disabled", name="off3", user="off")
    wanted = {"workspace": "off1", "for_clone": False}
    assert '"code": 1005' in web1.helper({"verb": "runtime.start", "arguments": wanted}).out
    assert web1.client.user.disable(name="off").state == "disabled"
    assert "cs-off" not in web1.on("pwck -r; grpck -r", check=False).out

    assert web1.client.user.enable(name="off").state == "active"

    assert web1.on(STATE).out == before
    assert [one.type for one in web1.client.user.get(name="off").ssh_keys] == ["ssh-ed25519"]
    assert web1.client.workspace.exec(name="off1", argv=["id", "-un"]).stdout == "cs-off1\n"
    assert web1.client.user.enable(name="off").state == "active"


def test_keys_that_openssh_does_not_take_and_options_are_refused(web1: Web1) -> None:
    key = web1.on("rm -f /tmp/k3*; ssh-keygen -q -N '' -t ed25519 -f /tmp/k3; cat /tmp/k3.pub").out.strip()
    web1.client.user.create(name="strict", ssh_keys=[key])
    short = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQE="
    for bad in (f'command="sh" {key}', f"restrict {key}", short):
        web1.refuses(web1.client.user.set_keys, "invalid_params", name="strict", ssh_keys=[bad])
    assert [one.comment for one in web1.client.user.get(name="strict").ssh_keys] == [key.split()[2]]
    kept = web1.on("grep -rl AAAA /srv/codesmith", check=False).out.split()
    assert {Path(path).parent for path in kept} == {Path("/srv/codesmith/keys")}
    web1.client.user.delete(name="strict")


def test_disable_ends_jobs_that_run_and_jobs_that_just_start(web1: Web1) -> None:
    web1.client.user.create(name="jobs")
    web1.client.workspace.create(name="jobs1", user="jobs")
    start = web1.helper_command({"verb": "runtime.start", "arguments": {"workspace": "jobs1", "for_clone": False}})
    job = web1.runtime_command("jobs1", "exec", **command("sleep", "3003"))
    for number in range(3):
        web1.on(f"for i in 1 2 3; do ({start}; {job}) > /tmp/job.$i 2>&1 & done; sleep 0.{number * 4}")
        web1.client.user.disable(name="jobs")
        assert not is_running(web1, "sleep 3003")
        web1.client.user.enable(name="jobs")
        assert not is_running(web1, "sleep 3003")


LITTER = r"""
umask 0
cd /tmp; mkdir -p litter/a/b litter/open; echo > litter/a/b/f; mkfifo litter/pipe; ln -s /etc litter/link
ln -s /etc/passwd /var/tmp/litter; echo > /var/tmp/litter2; echo > /dev/shm/litter; echo > /tmp/shared/litter
echo > /run/lock/litter
mkdir -p /tmp/shared/sub/litter; echo > /tmp/shared/sub/litter/f
python3 - <<P
import os, socket
socket.socket(socket.AF_UNIX).bind("/tmp/litter.sock")
os.chdir("/var/tmp"); os.mkdir("deep"); os.chdir("deep")
for _ in range(600):
    os.mkdir("d" * 100); os.chdir("d" * 100)
os.close(os.open("end", os.O_CREAT))
P
ipcmk -M 4096 -S 2 -Q
echo sleep 1 | at now + 3 days
echo > /var/mail/cs-litter
python3 - <<P
import ctypes, os
library = ctypes.CDLL(None)
library = library if hasattr(library, "mq_open") else ctypes.CDLL("librt.so.1")
library.mq_open(b"/litter", os.O_CREAT | os.O_RDWR, 0o600, None)
P
"""


@pytest.fixture
def _no_deep_tree_stays(web1: Web1) -> Iterator[None]:
    yield
    web1.on("rm -rf /var/tmp/deep /var/tmp/.codesmith-sweep-*")


@pytest.mark.usefixtures("_no_deep_tree_stays")
def test_delete_leaves_nothing_of_the_user_and_all_of_others(web1: Web1) -> None:
    uid = web1.client.workspace.create(name="litter").uid
    web1.on(
        "mkdir -p -m 777 /tmp/shared /tmp/shared/sub; touch /var/mail/cs-litter; chown cs-litter /var/mail/cs-litter"
    )
    web1.on(f"cat > /tmp/litter.sh <<'E'\n{LITTER}E\nchmod 755 /tmp/litter.sh")
    as_user(web1, "cs-litter", "cd /tmp; sh /tmp/litter.sh 2>&1")
    web1.on("echo '@daily true' | crontab -u cs-litter -")
    # What a killed crontab(1) leaves.
    web1.on("cd /var/spool/cron/crontabs; touch tmp.AbCdEf; chown cs-litter tmp.AbCdEf")
    web1.on("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/cs-litter")
    web1.on("echo mine > /tmp/litter/open/of-root; echo mine > /tmp/shared/of-root")
    places = "/tmp /var/tmp /dev/shm /dev/mqueue /run/lock /var/mail /var/spool/cron"
    owned = f"find {places} -xdev -uid {uid} -prune -print"
    found = web1.on(f"{owned}; cat /proc/sysvipc/*").out
    for trace in ("/tmp/litter", "/var/tmp/deep", "/dev/shm/litter", "/dev/mqueue/litter", "/run/lock/litter"):
        assert trace in found, found
    for trace in ("/var/mail/cs", "/atjobs/a", "/crontabs/tmp.AbCdEf"):
        assert trace in found, found
    assert found.count(f" {uid} ") >= 3
    deleted = web1.client.workspace.delete(name="litter")
    assert [path.rpartition("/")[0].startswith("/tmp/") for path in deleted.leftovers] == [True]
    assert not web1.on(owned).out
    assert f" {uid} " not in web1.on("cat /proc/sysvipc/*").out
    assert "litter" not in web1.on("ls -a /var/spool/cron/crontabs /var/lib/systemd/linger").out
    assert not web1.on(f"ps -o pid= -u {uid}", check=False).out
    assert web1.on("cat $(find /tmp -name of-root)").out == "mine\nmine\n"
    assert web1.on("getent passwd root; ls /etc/passwd").ok
    web1.on("rm -rf /tmp/.codesmith-sweep-* /tmp/litter* /tmp/shared")


def test_audit_list_tells_what_happened(web1: Web1) -> None:
    web1.client.workspace.create(name="told")
    web1.client.workspace.delete(name="told")
    newest, older = web1.client.audit.list(workspace="told")
    assert [(one.method, one.outcome, one.peer_login) for one in (newest, older)] == [
        ("workspace.delete", "ok", "root"),
        ("workspace.create", "ok", "root"),
    ]
    said = web1.person.runs("inv audit.list --workspace told --limit 1 --json").json
    assert [one["method"] for one in said] == ["workspace.delete"]


def test_the_dedicated_user_of_a_deleted_workspace_leaves_nothing_either(web1: Web1) -> None:
    uid = web1.client.workspace.create(name="dedic").uid
    as_user(web1, "cs-dedic", "echo > /tmp/of-dedic; ipcmk -M 4096")
    web1.on("echo '@daily true' | crontab -u cs-dedic -")
    assert web1.client.workspace.delete(name="dedic").user_deleted
    assert not web1.on(
        f"find /tmp /var/spool/cron -uid {uid}; ls /var/spool/cron/crontabs | grep dedic", check=False
    ).out
    assert f" {uid} " not in web1.on("cat /proc/sysvipc/*").out


SWAP = """
import os
os.chdir("/tmp")
while True:
    try:
        os.makedirs("swap/a", exist_ok=True)
        os.rename("swap/a", "swap/b")
        os.symlink("/srv/precious", "swap/a")
        os.unlink("swap/a")
        os.rmdir("swap/b")
    except OSError:
        pass
"""


def test_a_sweep_does_not_follow_somebody_who_swaps_directories_for_links(web1: Web1) -> None:
    web1.client.workspace.create(name="swapper")
    web1.on("mkdir -p /srv/precious; touch /srv/precious/f")
    web1.on(f"cat > /tmp/swap.py <<'E'\n{SWAP}E\n")
    web1.on("setpriv --reuid=cs-swapper --regid=cs-swapper --clear-groups python3 /tmp/swap.py >/dev/null 2>&1 &")
    for number in range(2):
        uid = web1.client.workspace.create(name=f"swept{number}").uid
        web1.on(f"chown {uid} /srv/precious/f; touch /tmp/s{number}; chown {uid} /tmp/s{number}")
        assert web1.client.workspace.delete(name=f"swept{number}").leftovers == []
        assert not web1.on(f"test -e /tmp/s{number}", check=False).ok
        assert web1.on("ls /srv/precious").out == "f\n"
    assert web1.client.workspace.delete(name="swapper").leftovers == []
    assert not web1.on("test -e /tmp/swap", check=False).ok


def test_an_account_made_by_hand_is_left_alone(web1: Web1) -> None:
    web1.on("useradd --create-home cs-hand")
    before = web1.on("getent passwd cs-hand; ls -ld /home/cs-hand").out
    web1.refuses(web1.client.user.create, "not_managed", name="hand")
    web1.refuses(web1.client.workspace.create, "not_managed", name="hand")
    web1.refuses(web1.client.user.get, "not_found", name="hand")
    web1.refuses(web1.client.user.delete, "not_found", name="hand")
    assert web1.on("getent passwd cs-hand; ls -ld /home/cs-hand").out == before


def test_a_group_or_directory_made_by_hand_is_left_alone(web1: Web1) -> None:
    web1.on("groupadd cs-grp; mkdir /srv/codesmith/home/cs-hom /srv/codesmith/workspaces/wsp")
    web1.refuses(web1.client.user.create, "not_managed", name="grp")
    web1.refuses(web1.client.workspace.create, "not_managed", name="hom")
    web1.refuses(web1.client.workspace.create, "not_managed", name="wsp")
    assert web1.on("getent group cs-grp && ls -d /srv/codesmith/home/cs-hom /srv/codesmith/workspaces/wsp").ok
    assert not web1.on("getent passwd cs-grp cs-hom cs-wsp", check=False).out
    web1.on("groupdel cs-grp; rmdir /srv/codesmith/home/cs-hom /srv/codesmith/workspaces/wsp")
    assert web1.client.user.create(name="grp").login == "cs-grp"


def test_an_account_that_was_made_again_by_hand_is_left_alone(web1: Web1) -> None:
    web1.client.user.create(name="twin")
    web1.on("userdel cs-twin; useradd --uid 4242 --user-group --create-home cs-twin; setpriv --reuid=4242 "
            "--regid=4242 --clear-groups sleep 1001 >/dev/null 2>&1 &")  # fmt: skip
    web1.refuses(web1.client.user.delete, "not_managed", name="twin")
    assert "4242" in web1.on("getent passwd cs-twin").out
    web1.refuses(web1.client.user.get, "not_found", name="twin")
    assert "twin" not in [user.name for user in web1.client.user.list()]
    health = {check.name: (check.status, check.detail) for check in web1.client.node.health().checks}
    assert health["accounts"][0] == "degraded"
    assert "cs-twin" in health["accounts"][1]
    is_running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep 1001'"
    web1.person.wait_until(lambda: web1.on(is_running, check=False).ok, within_s=10)
    web1.refuses(web1.client.user.delete, "not_managed", name="twin")
    assert web1.on(is_running).ok
    web1.on("kill $(grep -lz '[s]leep' /proc/[0-9]*/cmdline | cut -d/ -f3)", check=False)
    web1.on("userdel -r cs-twin", check=False)
    assert web1.client.user.delete(name="twin").leftovers == []


def test_an_account_with_the_uid_or_group_of_ours_is_left_alone(web1: Web1) -> None:
    uid = web1.client.workspace.create(name="sole").uid
    is_running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep 1005'"
    web1.on(f"useradd --non-unique --uid {uid} -N --gid nogroup alias; install -o {uid} /dev/null /tmp/alias")
    web1.on(f"setpriv --reuid={uid} --regid={uid} --clear-groups sleep 1005 >/dev/null 2>&1 &")
    web1.person.wait_until(lambda: web1.on(is_running, check=False).ok, within_s=10)
    web1.client.user.create(name="heir")
    for call, more in (
        (web1.client.workspace.delete, {}),
        (web1.client.user.disable, {}),
        (web1.client.workspace.assign, {"user": "heir"}),
    ):
        assert "alias" in web1.refuses(call, "not_managed", name="sole", **more).problem
    assert web1.on(f"{is_running}; ls /tmp/alias; getent passwd alias cs-sole").ok
    web1.on("sed -i /^alias:/d /etc/passwd /etc/shadow")
    web1.on("cp -p /etc/group /root; sed -i 's/^cs-sole:x:[0-9]*/cs-sole:x:4300/' /etc/group")
    web1.refuses(web1.client.workspace.delete, "not_managed", name="sole")
    assert web1.on("getent passwd cs-sole && getent group 4300").ok
    web1.on("cat /root/group > /etc/group")
    assert web1.client.workspace.delete(name="sole").leftovers == []


def test_a_user_that_the_store_has_forgotten_is_made_again_with_the_keys_of_now(web1: Web1) -> None:
    """As after a restored backup."""
    old, new = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}" for letter in "AB")
    uid = web1.client.user.create(name="lost", ssh_keys=[old]).uid
    forget = "database.execute(\"DELETE FROM users WHERE name = 'lost'\"); database.commit()"
    web1.on(f"python3 - <<'E'\nimport sqlite3\ndatabase = sqlite3.connect('/var/lib/codesmith/state.db')\n{forget}\nE")
    made = web1.client.user.create(name="lost", ssh_keys=[new])
    assert (made.uid, len(made.ssh_keys)) == (uid, 1)
    assert made.ssh_keys == web1.client.user.set_keys(name="lost", ssh_keys=[new]).ssh_keys


def test_a_user_full_of_processes_is_deleted(web1: Web1) -> None:
    web1.client.workspace.create(name="busy")
    become = "setpriv --reuid=cs-busy --regid=cs-busy --clear-groups"
    web1.on(
        f"for i in $(seq 30); do {become} sh -c 'trap \"\" TERM HUP; while :; do sleep 5; done' >/dev/null 2>&1 & done"
    )
    assert web1.client.workspace.delete(name="busy").leftovers == []
    assert not web1.on("getent passwd cs-busy", check=False).ok


def test_uids_are_never_given_twice(web1: Web1) -> None:
    first = web1.client.user.create(name="uid").uid
    web1.client.user.delete(name="uid")
    assert web1.client.user.create(name="uid").uid > first
