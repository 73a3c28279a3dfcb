"""Nobody gets in as a disabled user or a workspace through the node: its sshd, user managers, cron, at and su."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]

OPTIONS = "-o StrictHostKeyChecking=accept-new -o ConnectTimeout=10"
BY_KEY = f"{OPTIONS} -o BatchMode=yes -i /root/.ssh/way-in"
ONE_TRY = "-o NumberOfPasswordPrompts=1 -o PubkeyAuthentication=no"
BY_PASSWORD = f"{OPTIONS} {ONE_TRY} -o PreferredAuthentications=password,keyboard-interactive"
# An ordinary account beside those of CodeSmith: each way is open to it.
ORDINARY, LOGINS = "ordinary", ("cs-ann", "cs-site")
NO_HOME = "/srv/codesmith/empty"


@pytest.fixture(scope="module", autouse=True)
def logins(web1: Web1) -> Iterator[None]:
    """A disabled user, and a workspace of another one; root has authorised a key for all logins."""
    web1.on("mkdir -p -m 700 /root/.ssh; rm -f /root/.ssh/way-in*; ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/way-in")
    key = web1.on("cat /root/.ssh/way-in.pub").out.strip()
    web1.client.user.create(name="ann", ssh_keys=[key])
    web1.client.user.disable(name="ann")
    web1.client.user.create(name="bob")
    web1.client.workspace.create(name="site", user="bob")
    open_to_all = "AuthorizedKeysFile /etc/ssh/keys/%%u .ssh/authorized_keys\nPasswordAuthentication yes\n"
    penalties = "if sshd -T | grep -qi persourcepenalties; then echo PerSourcePenalties no >>$file; fi"
    web1.on(
        f"umask 022; useradd -m -s /bin/bash -p '*' {ORDINARY}; mkdir -p /etc/ssh/keys\n"
        "file=/etc/ssh/sshd_config.d/00-tests.conf\n"
        f"for login in {ORDINARY} {' '.join(LOGINS)}; do cat /root/.ssh/way-in.pub >/etc/ssh/keys/$login; done\n"
        f"printf '{open_to_all}' >$file; {penalties}; systemctl reload ssh\n"
        "printf '#!/bin/sh\\necho geheim\\n' >/root/ask; chmod 700 /root/ask"
    )
    yield
    web1.on("rm -rf /etc/ssh/keys /etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh")
    web1.on(f"systemctl stop user@$(id -u {ORDINARY}); userdel -r {ORDINARY}")


def gets_in(web1: Web1, way: str, login: str) -> bool:
    return web1.on(f"{way} {login}@127.0.0.1 id -un", check=False).out.strip() == login


def test_an_account_is_closed_and_owns_nothing_in_the_account_databases(web1: Web1) -> None:
    uids = {"cs-ann": web1.client.user.get(name="ann").uid, "cs-site": web1.client.workspace.get(name="site").uid}
    for login, uid in uids.items():
        fields = web1.on(f"getent passwd {login}").out.strip().split(":")
        assert fields == [login, "x", str(uid), str(uid), "CodeSmith login", NO_HOME, "/usr/sbin/nologin"]
        shadow = web1.on(f"getent shadow {login}").out.strip().split(":")
        assert (shadow[1], shadow[7]) == ("!*", "1")
        assert web1.on(f"id -Gn {login}").out.split() == [login, *(["codesmith-logins"] if login == "cs-ann" else [])]
        assert not web1.on(f"grep -e {login} -e {uid} /etc/subuid /etc/subgid", check=False).out
    assert web1.on(f"stat -c '%U %G %a' {NO_HOME}; ls -A {NO_HOME}").out == "root root 755\n"


def test_a_users_login_owns_no_file(web1: Web1) -> None:
    places = "/srv /home /tmp /var /etc /run /dev/shm"
    assert web1.on(f"find {places} -xdev -user cs-ann -o -xdev -group cs-ann").out == ""
    assert web1.on("find /srv -xdev -user cs-site -prune").out.split() == [
        "/srv/codesmith/workspaces/site", "/srv/codesmith/home/cs-site",
    ]  # fmt: skip


# Without PAM sshd looks at the account by itself; with it: test_disable_ends_the_sessions... of test_keys_on_node.py.
@pytest.mark.parametrize("pam", ["no", pytest.param("yes", marks=pytest.mark.long)])
def test_no_key_and_no_forwarding_through_the_nodes_sshd(web1: Web1, pam: str) -> None:
    own = "mkdir -p ~/.ssh && cat >~/.ssh/authorized_keys && chmod -R go= ~/.ssh"
    key = web1.on("cat /root/.ssh/way-in.pub").out
    assert web1.client.workspace.exec(name="site", argv=["sh", "-c", own], stdin=key).exit_code == 0
    web1.on(f"sed -i '/^UsePAM/d;1iUsePAM {pam}' /etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh")
    # sshd starts itself anew, and listens to nobody meanwhile. The way is open to others.
    web1.person.wait_until(lambda: gets_in(web1, f"ssh {BY_KEY}", ORDINARY), within_s=20)
    for login in LOGINS:
        assert not gets_in(web1, f"ssh {BY_KEY}", login)
        forward = f"timeout 10 ssh {BY_KEY} -N -L 127.0.0.1:4022:127.0.0.1:22 {login}@127.0.0.1"
        assert web1.on(forward, check=False).code == 255  # 124: it was let in, and stayed


def test_no_password_lets_in(web1: Web1) -> None:
    web1.on("sed -i '/^UsePAM/d' /etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh")
    ask = f"SSH_ASKPASS=/root/ask SSH_ASKPASS_REQUIRE=force setsid --wait ssh {BY_PASSWORD}"
    # PAM waits two seconds after each wrong password.
    web1.on("sed -i '/pam_unix.so/s/$/ nodelay/' /etc/pam.d/common-auth")
    web1.on(f"echo {ORDINARY}:geheim | chpasswd")
    web1.person.wait_until(lambda: gets_in(web1, ask, ORDINARY), within_s=20)
    for login in LOGINS:
        assert not gets_in(web1, ask, login)
        web1.on(f"echo {login}:geheim | chpasswd")
        assert not gets_in(web1, ask, login), "a password that root gives it is not enough"
        assert not web1.on(f"su -s /bin/sh {login} -c true", check=False).ok
    web1.client.user.enable(name="ann")
    web1.client.user.disable(name="ann")
    web1.client.user.enable(name="bob")
    assert {web1.on(f"getent shadow {login}").out.split(":")[1] for login in LOGINS} == {"!*"}


def test_no_user_manager_starts_not_even_by_lingering(web1: Web1) -> None:
    web1.on(f"systemctl start user@$(id -u {ORDINARY})")
    for login in LOGINS:
        web1.on(f"mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/{login}")
        web1.on(f"systemctl start user@$(id -u {login})", check=False)
    web1.on("systemctl restart systemd-logind", check=False)
    for login in LOGINS:
        assert not web1.on(f"systemctl is-active user@$(id -u {login})", check=False).ok
        assert not web1.running(login.partition("-")[2])
    web1.on(f"systemctl stop user@$(id -u {ORDINARY}); rm -f /var/lib/systemd/linger/*", check=False)


def test_neither_cron_nor_at_starts_anything(web1: Web1) -> None:
    web1.on("systemctl stop cron atd")
    for login in (ORDINARY, *LOGINS):
        web1.on(f"echo '@reboot touch /tmp/{login}.cron' | crontab -u {login} -")
        head = f"#!/bin/sh\\n# atrun uid=$(id -u {login}) gid=$(id -g {login})\\n# mail {login} 0\\n"
        file = f"/var/spool/cron/atjobs/a0000$(id -u {login} | tail -c 2)00000001"
        web1.on(f'printf "{head}touch /tmp/{login}.at\\n" >{file}; chown {login}:daemon {file}; chmod 700 {file}')
    web1.on("rm -f /run/crond.reboot; systemctl start cron atd")
    fired = f"ls /tmp/{ORDINARY}.cron /tmp/{ORDINARY}.at"
    web1.person.wait_until(lambda: web1.on(fired, check=False).ok, within_s=30)
    refused = "journalctl --sync; journalctl --no-pager | grep -c 'cs-[a-z]* has expired'"
    web1.person.wait_until(lambda: int(web1.on(refused, check=False).out) >= 2 * len(LOGINS), within_s=30)
    assert not web1.on("ls /tmp/cs-*.cron /tmp/cs-*.at", check=False).out
    # A deletion removes what root has put there.
    web1.client.workspace.delete(name="site")
    assert not web1.on("ls /var/spool/cron/crontabs/cs-site; find /var/spool/cron -user cs-site", check=False).out
    web1.client.workspace.create(name="site", user="bob")
