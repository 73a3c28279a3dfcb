"""The life of a user on a real node: keys, disable, enable, and a deletion without traces."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from codesmith.errors import CodeSmithError
from tests.agent.on_node.web1 import BOTH_RELEASES, Web1

pytestmark = [pytest.mark.lab, BOTH_RELEASES]

OPTIONS = "-o StrictHostKeyChecking=accept-new -o BatchMode=yes -o ConnectTimeout=10"


@pytest.fixture(scope="module", autouse=True)
def _no_penalties(web1: Web1) -> None:
    """OpenSSH 10 blocks an address for a while after many refusals; here all logins come from one."""
    shut = "echo PerSourcePenalties no >/etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh"
    web1.on(f"if sshd -T | grep -qi persourcepenalties; then {shut}; fi")


def make_key(web1: Web1, file: str) -> str:
    web1.on(f"rm -f {file} {file}.pub; ssh-keygen -q -N '' -t ed25519 -f {file}")
    return web1.on(f"cat {file}.pub").out.strip()


def lets_in(web1: Web1, file: str, login: str) -> bool:
    return web1.on(f"ssh -i {file} {OPTIONS} {login}@127.0.0.1 id -un", check=False).out.strip() == login


def as_user(web1: Web1, login: str, script: str, *, check: bool = True) -> str:
    become = f"setpriv --reuid={login} --regid={login} --clear-groups"
    return web1.on(f"cd /; {become} env HOME=/srv/codesmith/home/{login} sh -c '{script}'", check=check).out


def linger(web1: Web1, login: str) -> None:
    # loginctl does not work in every container (trixie's: "Protocol driver not attached"), the file does.
    web1.on(f"loginctl enable-linger {login}; mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/{login}")
    web1.on(f"systemctl start user@$(id -u {login})")


def is_running(web1: Web1, words: str) -> bool:
    return web1.on(f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '[{words[0]}]{words[1:]}'", check=False).ok


def test_an_account_has_no_password_no_other_uids_and_a_home_of_its_own(web1: Web1) -> None:
    user = web1.client.user.create(name="plain")
    assert web1.on("getent shadow cs-plain").out.split(":")[1] == "*"
    assert (
        web1.on("id cs-plain").out == f"uid={user.uid}(cs-plain) gid={user.uid}(cs-plain) groups={user.uid}(cs-plain)\n"
    )
    assert not web1.on(f"grep -e cs-plain -e {user.uid} /etc/subuid /etc/subgid", check=False).out
    assert web1.on(f"stat -c '%U %G %a' {user.home}").out == "cs-plain cs-plain 700\n"
    assert web1.on("stat -c %s /var/log/lastlog || echo 0", check=False).out.strip() == "0"
    web1.client.user.delete(name="plain")


@pytest.mark.parametrize(
    "trick",
    [
        "true",
        "rm -r ~/.ssh",
        "rm -r ~/.ssh; ln -s /etc ~/.ssh",
        "rm -r ~/.ssh; ln -s /nowhere ~/.ssh",
        "rm -r ~/.ssh; mkfifo ~/.ssh",
        "rm -r ~/.ssh; echo > ~/.ssh",
        "rm ~/.ssh/authorized_keys; ln -s /etc/motd ~/.ssh/authorized_keys",
        "rm ~/.ssh/authorized_keys; mkfifo ~/.ssh/authorized_keys",
        "rm ~/.ssh/authorized_keys; mkdir -p ~/.ssh/authorized_keys/x",
        "chmod 0 ~/.ssh ~",
    ],
)
def test_keys_are_written_whatever_their_user_put_there(web1: Web1, trick: str) -> None:
    first, second = make_key(web1, "/tmp/k1"), make_key(web1, "/tmp/k2")
    before = web1.on("ls -la /etc; cat /etc/motd").out
    web1.client.user.create(name="tricky", ssh_keys=[first])
    try:
        as_user(web1, "cs-tricky", trick)
        changed = web1.client.user.set_keys(name="tricky", ssh_keys=[second])
        assert [key.type for key in changed.ssh_keys] == ["ssh-ed25519"]
        assert lets_in(web1, "/tmp/k2", "cs-tricky")
        assert not lets_in(web1, "/tmp/k1", "cs-tricky")
        shown = web1.on("stat -c '%U %a %F' /srv/codesmith/home/cs-tricky/.ssh/authorized_keys").out
        assert shown.startswith("cs-tricky 600 regular")
        assert {line for line in before.splitlines() if "authorized" in line} == set()
        assert "authorized_keys" not in web1.on("ls -a /etc").out
    finally:
        web1.client.user.delete(name="tricky")


SHUFFLE = """
import os, shutil
os.chdir(os.environ["HOME"])
while True:
    try:
        os.rename(".ssh", "old")
        os.symlink("/srv/victim", ".ssh")
        os.unlink(".ssh")
        os.mkfifo(".ssh")
        os.unlink(".ssh")
        shutil.rmtree("old")
        os.mkdir(".ssh")
        os.symlink("/srv/victim/authorized_keys", ".ssh/authorized_keys")
    except OSError:
        pass
"""


def test_a_user_who_shuffles_its_directories_gains_nothing_by_it(web1: Web1) -> None:
    key = make_key(web1, "/tmp/k8")
    web1.client.user.create(name="shuffle", ssh_keys=[key])
    web1.on(f"mkdir -p /srv/victim; chmod 777 /srv/victim; cat > /tmp/shuffle.py <<'E'\n{SHUFFLE}E\n")
    become = "setpriv --reuid=cs-shuffle --regid=cs-shuffle --clear-groups env HOME=/srv/codesmith/home/cs-shuffle"
    web1.on(f"{become} python3 /tmp/shuffle.py > /dev/null 2>&1 &")
    for _ in range(40):
        with contextlib.suppress(CodeSmithError):  # busy or refused, at once
            web1.client.user.set_keys(name="shuffle", ssh_keys=[key])
    assert not web1.on("ls -A /srv/victim").out
    assert not web1.on("find /srv/codesmith/home/cs-shuffle -not -user cs-shuffle 2>/dev/null", check=False).out
    web1.client.user.disable(name="shuffle")
    web1.client.user.set_keys(name="shuffle", ssh_keys=[key])
    web1.client.user.enable(name="shuffle")
    assert lets_in(web1, "/tmp/k8", "cs-shuffle")
    assert web1.client.user.delete(name="shuffle").leftovers == []


def test_keys_that_openssh_does_not_take_and_options_are_refused(web1: Web1) -> None:
    key = make_key(web1, "/tmp/k3")
    web1.client.user.create(name="strict", ssh_keys=[key])
    short = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQE="
    for bad in (f'command="sh" {key}', f"restrict {key}", short):
        web1.refuses(web1.client.user.set_keys, "invalid_params", name="strict", ssh_keys=[bad])
    assert lets_in(web1, "/tmp/k3", "cs-strict")


ACCOUNT = (
    "getent passwd cs-off; getent shadow cs-off; crontab -l -u cs-off; ls /var/lib/systemd/linger; stat -c '%U %a' "
)
ACCOUNT += (
    "/srv/codesmith/home/cs-off; cat /srv/codesmith/home/cs-off/.ssh/authorized_keys; ls /var/spool/cron/atjobs; "
)
ACCOUNT += "stat -c '%U %G %a %n' /srv/codesmith/workspaces/off?"


def test_disable_closes_every_way_and_enable_restores_exactly(web1: Web1) -> None:
    key = make_key(web1, "/tmp/k4")
    web1.client.user.create(name="off", ssh_keys=[key])
    for workspace in ("off1", "off2"):
        web1.client.workspace.create(name=workspace, user="off")
    web1.on("chmod 750 /srv/codesmith/home/cs-off; chgrp www-data /srv/codesmith/workspaces/off2")
    web1.on("chmod 2711 /srv/codesmith/workspaces/off2")
    web1.on("echo '* * * * * echo cron >> /tmp/off.cron' | crontab -u cs-off -")
    as_user(web1, "cs-off", "echo sleep 1 | at now + 3 days 2>&1", check=False)
    linger(web1, "cs-off")
    web1.person.wait_until(lambda: web1.on("systemctl is-active user@$(id -u cs-off)", check=False).ok, within_s=20)
    service = "[Service]\\nExecStart=sleep 3001\\nRestart=always\\nRestartSec=0\\n"
    as_user(
        web1,
        "cs-off",
        f'mkdir -p ~/.config/systemd/user; printf "{service}" > ~/.config/systemd/user/stays.service; '
        "XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user start stays",
    )
    web1.on("systemd-run --collect --unit offjob --uid=cs-off sh -c 'trap \"\" TERM; sleep 3002; sleep 3002'")
    web1.on(f"ssh -i /tmp/k4 {OPTIONS} -f -N -L 127.0.0.1:4022:127.0.0.1:22 cs-off@127.0.0.1 >/dev/null 2>&1")
    assert is_running(web1, "ssh -i /tmp/k4")
    before = web1.on(ACCOUNT).out
    assert {"cs-off", "* * * * * echo cron >> /tmp/off.cron"} <= set(before.splitlines())
    assert "cs-off www-data 2711 /srv/codesmith/workspaces/off2" in before
    assert re.search(r"^a[0-9a-f]{13}$", before, re.MULTILINE)
    assert is_running(web1, "sleep 3001")
    assert is_running(web1, "sleep 3002")

    assert web1.client.user.disable(name="off").state == "disabled"

    uid = web1.client.user.get(name="off").uid
    assert not web1.on(f"ps -o pid= -u {uid}; ps -o pid= -U {uid}", check=False).out
    assert not web1.on(f"systemctl is-active user@{uid}", check=False).ok
    assert not lets_in(web1, "/tmp/k4", "cs-off")
    forward = f"timeout 10 ssh -i /tmp/k4 {OPTIONS} -N -L 127.0.0.1:4023:127.0.0.1:22 cs-off@127.0.0.1"
    assert "denied" in web1.on(forward, check=False).err + web1.on(forward, check=False).out
    assert not web1.on("su -s /bin/sh cs-off -c true", check=False).ok
    assert not web1.on("crontab -l -u cs-off", check=False).ok
    assert not web1.on("test -e /var/lib/systemd/linger/cs-off", check=False).ok
    assert not web1.on("systemctl start user@$(id -u cs-off)", check=False).ok
    web1.refuses(web1.client.workspace.exec, "disabled", name="off1", argv=["id"])
    web1.refuses(web1.client.workspace.create, "disabled", name="off3", user="off")
    job = {"workspace": "off1", "argv": ["id"], "cwd": "", "env": {}, "stdin": "", "encoding": "text", "timeout_s": 5.0}
    assert '"code": 1005' in web1.helper({"verb": "job.run", "arguments": job}).out
    assert web1.client.user.disable(name="off").state == "disabled"
    assert "cs-off" not in web1.on("pwck -r; grpck -r", check=False).out

    assert web1.client.user.enable(name="off").state == "active"

    assert web1.on(ACCOUNT).out == before
    assert lets_in(web1, "/tmp/k4", "cs-off")
    assert web1.client.workspace.exec(name="off1", argv=["id", "-un"]).stdout == "cs-off\n"
    web1.person.wait_until(lambda: web1.on("systemctl is-active user@$(id -u cs-off)", check=False).ok, within_s=20)
    assert web1.client.user.enable(name="off").state == "active"


GATE = """\
#!/bin/sh
[ "$PAM_TYPE" = open_session ] && [ "$PAM_USER" = cs-midway ] || exit 0
touch /root/gate.reached
while [ -e /root/gate.closed ]; do sleep 0.05; done
"""


def test_a_login_that_was_just_let_in_is_ended(web1: Web1) -> None:
    """PAM has agreed and opens the session, as root; there is no process of the user yet."""
    key = make_key(web1, "/tmp/k9")
    web1.client.user.create(name="midway", ssh_keys=[key])
    web1.on(
        f"cat > /root/gate <<'E'\n{GATE}E\nchmod 755 /root/gate; touch /root/gate.closed; cp /etc/pam.d/sshd /root/pam"
    )
    # Before pam_systemd: logind does not know the session yet.
    web1.on("sed -i '1i session optional pam_exec.so quiet /root/gate' /etc/pam.d/sshd")
    try:
        web1.on(
            f"(ssh -i /tmp/k9 {OPTIONS} cs-midway@127.0.0.1 touch /tmp/of-midway; touch /root/gate.left) "
            "> /dev/null 2>&1 &"
        )
        web1.person.wait_until(lambda: web1.on("test -e /root/gate.reached", check=False).ok, within_s=30)
        web1.client.user.disable(name="midway")
    finally:
        web1.on("rm -f /root/gate.closed; cp /root/pam /etc/pam.d/sshd")
    web1.person.wait_until(lambda: web1.on("test -e /root/gate.left", check=False).ok, within_s=30)
    assert not web1.on("ls /tmp/of-midway", check=False).ok
    web1.on("rm -f /root/gate*")
    web1.client.user.delete(name="midway")


def test_an_at_job_whose_time_passed_meanwhile_is_dropped(web1: Web1) -> None:
    web1.client.user.create(name="late")
    as_user(web1, "cs-late", "echo true | at now + 3 days; echo true | at now + 4 days", check=False)
    web1.client.user.disable(name="late")
    first = web1.on("cd /var/spool/cron/atjobs; ls -A | grep cs-late | head -1").out.strip()
    web1.on(f"cd /var/spool/cron/atjobs; mv {first} {first[:-8]}00000001")
    # It would sleep for an hour otherwise: only at(1) tells it of a job.
    slept = "grep ^voluntary /proc/$(systemctl show --property=MainPID --value atd)/status"
    before = web1.on(slept).out
    web1.client.user.enable(name="late")
    web1.person.wait_until(lambda: web1.on(slept).out != before, within_s=30)
    assert len(web1.on("find /var/spool/cron/atjobs -user cs-late").out.splitlines()) == 1
    assert web1.client.user.delete(name="late").leftovers == []


def test_keys_of_a_disabled_user_count_once_it_is_enabled(web1: Web1) -> None:
    first, second = make_key(web1, "/tmp/k5"), make_key(web1, "/tmp/k6")
    web1.client.user.create(name="later", ssh_keys=[first])
    web1.client.user.disable(name="later")
    web1.client.user.set_keys(name="later", ssh_keys=[second])
    assert not lets_in(web1, "/tmp/k6", "cs-later")
    web1.client.user.enable(name="later")
    assert lets_in(web1, "/tmp/k6", "cs-later")
    assert not lets_in(web1, "/tmp/k5", "cs-later")


def test_disable_ends_jobs_that_run_and_jobs_that_just_start(web1: Web1) -> None:
    web1.client.user.create(name="jobs")
    web1.client.workspace.create(name="jobs1", user="jobs")
    job = {
        "workspace": "jobs1",
        "argv": ["sleep", "3003"],
        "cwd": "",
        "env": {},
        "stdin": "",
        "encoding": "text",
        "timeout_s": 60.0,
    }
    script = web1.helper_command({"verb": "job.run", "arguments": job})
    for number in range(6):
        web1.on(f"for i in 1 2 3; do {script} > /tmp/job.$i 2>&1 & done; sleep 0.0{number * 2}")
        web1.client.user.disable(name="jobs")
        assert not is_running(web1, "sleep 3003")
        web1.client.user.enable(name="jobs")
        assert not is_running(web1, "sleep 3003")


def test_a_disabled_user_is_deleted_whole(web1: Web1) -> None:
    web1.client.user.create(name="offgone")
    web1.on("echo '@daily true' | crontab -u cs-offgone -")
    linger(web1, "cs-offgone")
    web1.client.user.disable(name="offgone")
    assert web1.client.user.delete(name="offgone").leftovers == []
    assert "offgone" not in web1.on("ls -aR /var/spool/cron /var/lib/systemd/linger; cat /etc/passwd").out


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
    uid = web1.client.user.create(name="litter").uid
    web1.on(
        "mkdir -p -m 777 /tmp/shared /tmp/shared/sub; touch /var/mail/cs-litter; chown cs-litter /var/mail/cs-litter"
    )
    web1.on(f"cat > /tmp/litter.sh <<'E'\n{LITTER}E\nchmod 755 /tmp/litter.sh")
    as_user(web1, "cs-litter", "cd /tmp; sh /tmp/litter.sh 2>&1")
    web1.on("echo '@daily true' | crontab -u cs-litter -")
    # What a killed crontab(1) leaves.
    web1.on("cd /var/spool/cron/crontabs; touch tmp.AbCdEf; chown cs-litter tmp.AbCdEf")
    linger(web1, "cs-litter")
    web1.on("echo mine > /tmp/litter/open/of-root; echo mine > /tmp/shared/of-root")
    places = "/tmp /var/tmp /dev/shm /dev/mqueue /run/lock /var/mail /var/spool/cron"
    owned = f"find {places} -xdev -uid {uid} -prune -print"
    found = web1.on(f"{owned}; cat /proc/sysvipc/*").out
    for trace in ("/tmp/litter", "/var/tmp/deep", "/dev/shm/litter", "/dev/mqueue/litter", "/run/lock/litter"):
        assert trace in found, found
    for trace in ("/var/mail/cs", "/atjobs/a", "/crontabs/tmp.AbCdEf"):
        assert trace in found, found
    assert found.count(f" {uid} ") >= 3
    deleted = web1.client.user.delete(name="litter")
    assert [path.rpartition("/")[0].startswith("/tmp/") for path in deleted.leftovers] == [True]
    assert not web1.on(owned).out
    assert f" {uid} " not in web1.on("cat /proc/sysvipc/*").out
    assert "litter" not in web1.on("ls -a /var/spool/cron/crontabs /var/lib/systemd/linger").out
    assert not web1.on(f"ps -o pid= -u {uid}", check=False).out
    assert not web1.on(f"systemctl is-active user@{uid}", check=False).ok
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
    web1.client.user.create(name="swapper")
    web1.on("mkdir -p /srv/precious; touch /srv/precious/f")
    web1.on(f"cat > /tmp/swap.py <<'E'\n{SWAP}E\n")
    web1.on("setpriv --reuid=cs-swapper --regid=cs-swapper --clear-groups python3 /tmp/swap.py >/dev/null 2>&1 &")
    for number in range(5):
        uid = web1.client.user.create(name=f"swept{number}").uid
        web1.on(f"chown {uid} /srv/precious/f; touch /tmp/s{number}; chown {uid} /tmp/s{number}")
        assert web1.client.user.delete(name=f"swept{number}").leftovers == []
        assert not web1.on(f"test -e /tmp/s{number}", check=False).ok
        assert web1.on("ls /srv/precious").out == "f\n"
    assert web1.client.user.delete(name="swapper").leftovers == []
    assert not web1.on("test -e /tmp/swap", check=False).ok


def test_neither_cron_nor_at_starts_anything_for_a_disabled_user(web1: Web1) -> None:
    for name in ("fires", "rests"):
        web1.client.user.create(name=name)
        web1.on(f"echo '@reboot touch /tmp/{name}.cron' | crontab -u cs-{name} -")
        as_user(web1, f"cs-{name}", f"echo touch /tmp/{name}.at | at now + 1 hour 2>&1")
    web1.client.user.disable(name="rests")
    # Restored by hand: cron and atd refuse it anyway, because the account is expired.
    web1.on(
        "cd /var/spool/cron; cp -p crontabs/.parked-cs-rests crontabs/cs-rests; cp -p atjobs/.parked-cs-rests-* /root"
    )
    due = "name=${job##*-}; name=${name##*/}; mv $job ${name%????????}00000001"
    web1.on(f"cd /var/spool/cron/atjobs; for job in $(find . /root -user cs-fires -o -user cs-rests); do {due}; done")
    web1.on("rm -f /run/crond.reboot; systemctl restart cron atd; journalctl --sync")
    fired = "ls /tmp/fires.cron /tmp/fires.at"
    web1.person.wait_until(lambda: web1.on(fired, check=False).ok, within_s=30)
    refused = "journalctl --no-pager | grep -c 'cs-rests has expired'"
    web1.person.wait_until(lambda: web1.on(refused, check=False).out.strip() > "1", within_s=30)
    assert not web1.on("ls /tmp/rests.cron /tmp/rests.at", check=False).out
