"""The node's own policy for accounts, and what its admin changes later: told, put right, and nobody's way in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
# Everything that useradd takes from there when nobody says otherwise.
HOSTILE = """
groupadd docker; groupadd -g 4321 others
cat > /etc/default/useradd <<'X'
GROUPS=docker,adm,nosuch
GROUP=4321
INACTIVE=30
EXPIRE=2026-12-24
SHELL=/bin/false
SKEL=/etc
HOME=/opt
CREATE_MAIL_SPOOL=yes
LOG_INIT=yes
X
sed -i -E '/^(PASS_|UMASK|HOME_MODE|USERGROUPS_ENAB|SUB_.ID|SYS_.ID|.ID_M)/d' /etc/login.defs
cat >> /etc/login.defs <<'X'
PASS_MAX_DAYS 90
PASS_MIN_DAYS 5
PASS_WARN_AGE 80
UMASK 000
HOME_MODE 0777
USERGROUPS_ENAB no
UID_MIN 1000
UID_MAX 29999
SUB_UID_MIN 600000
SUB_UID_MAX 2100000000
SUB_UID_COUNT 1000
X
setfacl -d -m u:1234:rwx /srv; setfacl -d -m g:4321:rwx /srv; setfacl -d -m u:1234:rwx /etc /var/lib /usr/lib
"""


@pytest.fixture(scope="module")
def prepare_first() -> str:
    """What somebody has done to the node before it is prepared."""
    return HOSTILE


def shadow(web1: Web1, login: str) -> list[str]:
    return web1.on(f"getent shadow {login}").out.strip().split(":")[1:]


def assert_is_ours(web1: Web1, login: str) -> None:
    """An account with one group, no password and no ageing; a login is expired and has no shell."""
    # That of a user is in the group for which sshd has our settings, and with a key it is open for it.
    users = web1.client.user.list() if login.startswith("cs-") else []
    names = {f"cs-{one.name}" for one in users if one.state == "active"}
    opened = {f"cs-{one.name}" for one in users if one.state == "active" and one.ssh_keys}
    assert set(web1.on(f"id -Gn {login}").out.split()) <= {login, *(["codesmith-logins"] if login in names else [])}
    password, _changed, *rest = shadow(web1, login)
    is_open = login == "codesmith" or login in opened
    assert (password, rest) == (("*", [""] * 6) if is_open else ("!*", ["", "", "", "", "1", ""]))
    shell = "/usr/lib/codesmith/enter" if login in opened else "/usr/sbin/nologin"
    assert web1.on(f"getent passwd {login}").out.strip().endswith(f":{shell}")
    assert not web1.on(f"ls /var/mail/{login}; grep {login} /etc/subuid /etc/subgid", check=False).out


def test_nothing_of_the_policy_counts_for_the_front_end_or_a_user(web1: Web1) -> None:
    web1.client.user.create(name="plain", ssh_keys=[KEY])
    web1.client.user.create(name="keyless")
    home = web1.client.workspace.create(name="site", user="plain").home
    for login in ("codesmith", "cs-plain", "cs-site", "cs-keyless"):
        assert_is_ours(web1, login)
    assert web1.on("getent passwd cs-site").out.strip().split(":")[5] == "/srv/codesmith/empty"
    assert web1.on(f"stat -c %a {home}").out == "700\n"
    assert web1.client.user.get(name="plain").drift == []
    # What the policy says is what an account of somebody else gets.
    web1.on("useradd other")
    assert shadow(web1, "other")[2:7] == ["5", "90", "80", "30", "20811"]
    web1.on("userdel other")


def test_a_default_access_list_above_opens_nothing(web1: Web1) -> None:
    web1.client.user.create(name="shut")
    web1.client.workspace.create(name="shut", user="shut")
    web1.client.workspace.create(name="given", user="shut")
    web1.client.user.create(name="heir")
    # Also one that somebody has put on what is ours since.
    web1.on("setfacl -d -m u:1234:rwx /srv/codesmith/.staging /srv/codesmith/workspaces /srv/codesmith/home")
    try:
        web1.client.user.create(name="shut2")
        web1.client.workspace.create(name="shut2", user="shut2")
        web1.client.workspace.assign(name="given", user="heir")
        ours = "$(find /srv/codesmith/workspaces/* /srv/codesmith/home/* -type d)"
        assert not web1.on(f"getfacl -cpR {ours} | grep -E '1234|4321|default'", check=False).out
        health = {check.name: check for check in web1.client.node.health().checks}
        assert health["directories"].status == "failing"
        assert "access list" in health["directories"].detail
        said = web1.person.runs("inv node.verify", code=1)
        assert "/srv/codesmith/.staging\tchanged\t0700 root:root\t0700 root:root with an access list" in said.out
        web1.person.runs("inv node.prepare")
        assert web1.person.runs("inv node.verify").ok
    finally:
        web1.on("setfacl -b /srv/codesmith/.staging /srv/codesmith/workspaces /srv/codesmith/home")
    ours = "/srv/codesmith /etc/codesmith /var/lib/codesmith /var/lib/codesmith-helper /usr/lib/codesmith"
    assert not web1.on(f"getfacl -cpR {ours} | grep -E '1234|4321|default'", check=False).out


# What somebody does to cs-drift, and what is said of it.
CHANGES = {
    "usermod --append --groups docker cs-drift": "in the group docker",
    "gpasswd --members cs-drift adm": "in the group adm",
    "sed -i 's/^docker:\\(.*\\):\\([^:]*\\)$/docker:\\1:cs-drift/' /etc/gshadow": "in the group docker",
    "gpasswd --administrators cs-drift,root docker": "in the group docker",
    "gpasswd --add nobody cs-drift": "its group has other members: nobody",
    "chage --maxdays 90 cs-drift": "its password expires after 90 days",
    "chage --mindays 9 cs-drift": "its password may be changed after 9 days only",
    "chage --inactive 3 cs-drift": "it is closed 3 days after its password expires",
    "chage --lastday 0 cs-drift": "its password must be changed at the next login",
    "chage --expiredate 2026-12-24 cs-drift": "it expires on 2026-12-24",
    "usermod --shell /bin/bash cs-drift": "it has the shell /bin/bash and not /usr/lib/codesmith/enter",
    "usermod --password '!*' cs-drift": "its password is locked",
    "echo cs-drift:secret1 | chpasswd": "it has a password",
    "gpasswd --delete cs-drift codesmith-logins": "not in the group codesmith-logins",
    "setfacl -m u:1234:rwx /srv/codesmith/home/cs-drift": "access list on /srv/codesmith/home/cs-drift",
    "setfacl -d -m u:1234:rwx /srv/codesmith/workspaces/drift": "access list on /srv/codesmith/workspaces/drift",
}


@pytest.fixture(scope="module")
def drifting(web1: Web1) -> Iterator[Web1]:
    web1.client.user.create(name="drift", ssh_keys=[KEY])
    web1.client.workspace.create(name="drift", user="drift")
    yield web1
    web1.client.workspace.delete(name="drift")
    web1.client.user.delete(name="drift")


@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_changes_is_told_and_enable_puts_it_right(drifting: Web1, change: str) -> None:
    drifting.on(change)
    assert drifting.client.user.get(name="drift").drift == [CHANGES[change]]
    assert drifting.client.user.enable(name="drift").state == "active"
    assert drifting.client.user.get(name="drift").drift == []
    assert_is_ours(drifting, "cs-drift")


def test_a_node_without_gshadow_is_put_right_too(drifting: Web1) -> None:
    drifting.on("grpunconv; gpasswd --add nobody cs-drift; usermod --append --groups docker cs-drift")
    try:
        assert drifting.client.user.enable(name="drift").state == "active"
        assert drifting.client.user.get(name="drift").drift == []
        assert drifting.client.user.create(name="plainer").state == "active"
        assert drifting.client.user.delete(name="plainer").deleted
    finally:
        drifting.on("grpconv")
    assert_is_ours(drifting, "cs-drift")


def test_all_of_it_is_told_by_verify_health_and_doctor_and_prepare_puts_it_right(drifting: Web1) -> None:
    words = CHANGES["usermod --append --groups docker cs-drift"], CHANGES["chage --maxdays 90 cs-drift"]
    drifting.on("usermod --append --groups docker cs-drift; chage --maxdays 90 cs-drift")
    told = "; ".join(words)
    assert (
        f"login\tcs-drift\tchanged\tas CodeSmith makes them\t{told}"
        in drifting.person.runs("inv node.verify", code=1).out
    )
    health = {check.name: check for check in drifting.client.node.health().checks}
    assert health["policy"].status == "degraded"
    assert f"drift {', '.join(words)}" in health["policy"].detail
    rows = {row["code"]: row for row in drifting.person.runs("inv node.doctor --json").json}
    assert (rows["node.accounts"]["status"], rows["node.accounts"]["next"]) == ("warn", "inv node.prepare --node web1")
    assert f"cs-drift: {', '.join(words)}" in rows["node.accounts"]["detail"]
    drifting.person.runs("inv node.prepare")
    assert_is_ours(drifting, "cs-drift")
    assert drifting.person.runs("inv node.verify").ok
    assert drifting.client.node.health().status == "ok"
    assert drifting.person.runs("inv node.prepare --plan --json").json[0]["steps"] == []


@pytest.mark.long
def test_one_account_that_cannot_be_put_right_does_not_keep_the_others_as_they_are(drifting: Web1) -> None:
    for name in ("able", "twin"):
        drifting.client.user.create(name=name)
    drifting.on("usermod --append --groups docker cs-able; usermod --append --groups docker cs-drift")
    drifting.on("useradd -N -o -G '' -u $(id -u cs-able) -M other; gpasswd -A cs-twin docker")
    try:
        said = drifting.person.runs("inv node.prepare", code=1)
        assert "could not repair the account cs-able: the Unix account 'other' has uid" in said.err
        for login in ("cs-drift", "cs-twin"):
            assert_is_ours(drifting, login)
        assert drifting.on("getent gshadow docker").out == "docker:!::cs-able\n"
        refusal = drifting.helper({"verb": "user.put_right", "arguments": {"name": None}}).json["error"]
        assert refusal["data"]["kind"] == "not_managed" and "'cs-able'" in refusal["message"]
    finally:
        drifting.on("sed -i /^other:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow")
    drifting.person.runs("inv node.prepare")
    assert_is_ours(drifting, "cs-able")
    for name in ("able", "twin"):
        drifting.client.user.delete(name=name)


def test_what_cannot_be_put_right_is_an_error_and_nothing_half_made_stays(web1: Web1) -> None:
    # A tool of the node that does otherwise than it was told.
    web1.on("mv /usr/sbin/useradd /usr/sbin/useradd.true; mv /usr/sbin/usermod /usr/sbin/usermod.true")
    odd = '#!/bin/sh\n/usr/sbin/useradd.true "$@" || exit; gpasswd --add cs-odd adm\n'
    try:
        web1.on(f"printf '{odd}' > /usr/sbin/useradd; printf '#!/bin/sh\nexit 0\n' > /usr/sbin/usermod")
        web1.on("chmod 755 /usr/sbin/useradd /usr/sbin/usermod")
        refusal = web1.refuses(web1.client.user.create, "command_failed", name="odd")
        assert "in the group adm" in refusal.problem
    finally:
        web1.on("mv /usr/sbin/useradd.true /usr/sbin/useradd; mv /usr/sbin/usermod.true /usr/sbin/usermod")
    assert not web1.on("grep cs-odd /etc/passwd /etc/shadow /etc/group /etc/gshadow; ls /srv/codesmith/home | grep odd",
                       check=False).out  # fmt: skip
    assert web1.client.user.create(name="odd").state == "active"
    web1.client.user.delete(name="odd")


OPENED = "usermod --expiredate '' --shell /bin/bash --password '*' cs-opened"


@pytest.mark.parametrize("by", ["prepare", "disable"])
def test_an_account_that_somebody_opened_is_told_and_closed_again(web1: Web1, by: str) -> None:
    web1.client.user.create(name="maker")
    web1.client.workspace.create(name="opened", user="maker")
    web1.on(OPENED)
    policy = next(check for check in web1.client.node.health().checks if check.name == "policy")
    said = "it has the shell /bin/bash, its password is not locked, it does not expire"
    assert (policy.status, policy.detail.partition(";")[0]) == ("degraded", f"opened {said}")
    if by == "prepare":
        web1.person.runs("inv node.prepare")
    else:
        web1.client.user.disable(name="maker")
    assert_is_ours(web1, "cs-opened")
    web1.client.workspace.delete(name="opened")
    web1.client.user.delete(name="maker")


@pytest.mark.long
def test_the_front_ends_user_is_put_right_too(web1: Web1) -> None:
    web1.on("usermod --append --groups docker codesmith; chage --maxdays 90 --inactive 30 codesmith")
    web1.on("usermod --expiredate 2026-12-24 codesmith; gpasswd --add nobody codesmith")
    said = web1.person.runs("inv node.verify", code=1).out
    for words in ("in the group docker", "has other members: nobody", "expires after 90 days", "expires on 2026-12-24"):
        assert words in said
    web1.person.runs("inv node.prepare")
    assert_is_ours(web1, "codesmith")
    assert web1.on("getent group codesmith").out.endswith(":\n")
    assert web1.person.runs("inv node.verify").ok
