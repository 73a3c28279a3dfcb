"""People who have only a key: whose key lets in through the node's sshd, as whom, and what keeps them out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.shared import sshkeys
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]

OPTIONS = (
    "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o IdentitiesOnly=yes "
    "-o ConnectTimeout=10 -o LogLevel=ERROR"
)
KEYS = "/srv/codesmith/keys"
ENTER = "/usr/lib/codesmith/enter"
# Sessions that stay, whatever the program behind the door does.
STAYS = f"cp -p {ENTER} /root/enter.kept; printf '#!/bin/sh\\nexec sleep 1000\\n' >{ENTER}"


@pytest.fixture(scope="module", autouse=True)
def people(web1: Web1) -> Iterator[None]:
    """Three keys on the node; ann with the first one, and a workspace of hers."""
    for name in ("first", "second", "third"):
        web1.on(f"mkdir -p -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -C {name}@pc -f /root/.ssh/{name}")
    # Many refused logins in a row from one address are what newer ones punish.
    penalties = "if sshd -T | grep -qi persourcepenalties; then echo PerSourcePenalties no >>$file; fi"
    web1.on(f"file=/etc/ssh/sshd_config.d/00-tests.conf; echo MaxAuthTries 6 >$file; {penalties}; systemctl reload ssh")
    web1.person.wait_until(lambda: web1.on("ssh-keyscan 127.0.0.1", check=False).out != "", within_s=20)
    web1.client.user.create(name="ann", ssh_keys=[key(web1, "first")])
    web1.client.workspace.create(name="site", user="ann")
    yield


def key(web1: Web1, name: str) -> str:
    return web1.on(f"cat /root/.ssh/{name}.pub").out.strip()


def is_let_in(web1: Web1, name: str, login: str = "cs-ann") -> bool:
    """Tell whether sshd lets somebody with this key in; what is behind it may still send them away."""
    said = web1.on(f"ssh {OPTIONS} -i /root/.ssh/{name} {login}@127.0.0.1 true 2>&1", check=False)
    return said.code != 255 or said.out.startswith("codesmith: ")


def health(web1: Web1, check: str) -> str:
    return next(f"{one.status}: {one.detail}" for one in web1.client.node.health().checks if one.name == check)


def test_the_account_of_an_active_user_is_open_for_sshd_alone(web1: Web1) -> None:
    uid = web1.client.user.get(name="ann").uid
    fields = web1.on("getent passwd cs-ann").out.strip().split(":")
    assert fields == ["cs-ann", "x", str(uid), str(uid), "CodeSmith login", "/srv/codesmith/empty", ENTER]
    assert web1.on("getent shadow cs-ann").out.strip().split(":")[1:8:6] == ["*", ""]
    assert web1.on("id -Gn cs-ann").out.split() == ["cs-ann", "codesmith-logins"]
    assert web1.client.user.get(name="ann").shell == ENTER
    assert web1.client.user.get(name="ann").drift == []
    assert health(web1, "door").startswith("ok: ")
    assert health(web1, "policy").startswith("ok: ")


def test_a_key_lets_in_and_no_other_and_one_taken_away_does_not(web1: Web1) -> None:
    user = web1.client.user
    assert [is_let_in(web1, name) for name in ("first", "second")] == [True, False]
    added = user.add_keys(name="ann", ssh_keys=[key(web1, "second"), key(web1, "first")])
    assert [one.comment for one in added.ssh_keys] == ["first@pc", "second@pc"]
    assert [is_let_in(web1, name) for name in ("first", "second")] == [True, True]
    left = user.remove_keys(name="ann", fingerprints=[added.ssh_keys[0].fingerprint])
    assert [one.comment for one in left.ssh_keys] == ["second@pc"]
    assert [is_let_in(web1, name) for name in ("first", "second")] == [False, True]
    web1.refuses(user.remove_keys, "not_found", name="ann", fingerprints=[added.ssh_keys[0].fingerprint])
    user.set_keys(name="ann", ssh_keys=[])
    assert not is_let_in(web1, "second")
    assert web1.on(f"ls -A {KEYS}").out == ""
    user.set_keys(name="ann", ssh_keys=[key(web1, "first")])
    assert is_let_in(web1, "first")
    assert web1.on(f"stat -c '%U:%G %a %F' {KEYS} {KEYS}/cs-ann").out.splitlines() == [
        "root:root 711 directory", "root:root 644 regular file",
    ]  # fmt: skip


def access_of(web1: Web1, name: str) -> list[str]:
    """Return password and expiry of an account, and its shell."""
    shadow = web1.on(f"getent shadow cs-{name}").out.strip().split(":")
    return [*shadow[1:8:6], web1.on(f"getent passwd cs-{name}").out.strip().split(":")[6]]


def test_an_account_is_open_only_while_it_has_a_key(web1: Web1) -> None:
    user, closed, opened = web1.client.user, ["!*", "1", "/usr/sbin/nologin"], ["*", "", ENTER]
    made = user.create(name="keyless")
    web1.client.workspace.create(name="own")
    assert (access_of(web1, "keyless"), access_of(web1, "own"), made.shell) == (closed, closed, closed[2])
    first, second = (key(web1, name) for name in ("first", "second"))
    steps = (
        (user.add_keys, {"ssh_keys": [first]}, opened),
        (user.add_keys, {"ssh_keys": [second]}, opened),
        (user.remove_keys, {"fingerprints": [fingerprint(first)]}, opened),
        (user.remove_keys, {"fingerprints": [fingerprint(second)]}, closed),
        (user.set_keys, {"ssh_keys": [first]}, opened),
        (user.disable, {}, closed),
        (user.set_keys, {"ssh_keys": []}, closed),
        (user.enable, {}, closed),
        (user.set_keys, {"ssh_keys": [second]}, opened),
        (user.disable, {}, closed),
        (user.enable, {}, opened),
        (user.set_keys, {"ssh_keys": []}, closed),
    )
    for call, fields, access in steps:
        assert call(name="keyless", **fields).shell == access[2], (call, fields)
        assert access_of(web1, "keyless") == access, (call, fields)
        assert user.get(name="keyless").drift == [], (call, fields)
    web1.on(f"usermod -e '' -p '*' -s {ENTER} cs-keyless")
    assert user.get(name="keyless").drift == [
        f"it has the shell {ENTER}", "its password is not locked", "it does not expire",
    ]  # fmt: skip
    user.enable(name="keyless")
    assert access_of(web1, "keyless") == closed
    # Root has put a key there: what a login may do it says itself, and node.health names the key.
    web1.on(f"cp /root/.ssh/third.pub {KEYS}/cs-keyless")
    assert not is_let_in(web1, "third", "cs-keyless")
    assert "cs-keyless" in health(web1, "door")
    user.enable(name="keyless")
    assert health(web1, "door").startswith("ok: ")
    user.delete(name="keyless")
    web1.client.workspace.delete(name="own")


@pytest.mark.long  # test_fixed_on_node.py has such accounts
def test_where_accounts_cannot_be_changed_the_last_key_stays_and_the_first_one_is_refused(web1: Web1) -> None:
    user = web1.client.user
    user.create(name="stuck")
    web1.on("chattr +i /etc/shadow")
    try:
        for name, keys in (("ann", []), ("stuck", [key(web1, "third")])):
            refusal = web1.refuses(user.set_keys, "command_failed", name=name, ssh_keys=keys)
            assert "/etc/shadow" in str(refusal)
        assert web1.on(f"ls -A {KEYS}").out == "cs-ann\n"
        assert is_let_in(web1, "first")
        # From one key to another no account changes.
        user.set_keys(name="ann", ssh_keys=[key(web1, "second")])
        user.set_keys(name="ann", ssh_keys=[key(web1, "first")])
    finally:
        web1.on("chattr -i /etc/shadow")
    user.set_keys(name="stuck", ssh_keys=[key(web1, "third")])
    assert is_let_in(web1, "third", "cs-stuck")
    user.delete(name="stuck")


def fingerprint(line: str) -> str:
    return sshkeys.describe(line).fingerprint


def test_a_link_where_the_keys_should_be_is_replaced_and_not_followed(web1: Web1) -> None:
    web1.on(f"echo theirs >/root/theirs; ln -sf /root/theirs {KEYS}/cs-ann; ln -sf /root/theirs {KEYS}/.cs-ann.new")
    web1.client.user.set_keys(name="ann", ssh_keys=[key(web1, "first")])
    assert web1.on("cat /root/theirs").out == "theirs\n"
    assert web1.on(f"stat -c %F {KEYS}/cs-ann; ls -A {KEYS}").out == "regular file\ncs-ann\n"


def test_the_root_half_takes_nobodys_word_for_a_key(web1: Web1) -> None:
    good = key(web1, "second")
    lines = [f'command="id" {good}', good.replace("ssh-ed25519 ", "ssh-rsa ", 1), f"{good}\n{good}", "# nothing", 7]
    for keys in [[one] for one in lines] + [[good] * 65, [f"{good} {'x' * 9000}"], good, None]:
        said = web1.helper({"verb": "user.put_keys", "arguments": {"name": "ann", "keys": keys}})
        assert '"code": -32602' in said.out, (keys, said)
    for name, code in (("site", 1001), ("nobody", 1001), ("../ann", -32602)):
        said = web1.helper({"verb": "user.put_keys", "arguments": {"name": name, "keys": [good]}})
        assert f'"code": {code}' in said.out, said
    assert web1.on(f"ls -A {KEYS}").out == "cs-ann\n"


def test_a_workspace_of_somebody_else_has_no_way_in_of_its_own(web1: Web1) -> None:
    web1.on(f"cp {KEYS}/cs-ann {KEYS}/cs-site")
    assert not is_let_in(web1, "first", "cs-site")
    web1.on(f"rm {KEYS}/cs-site")
    web1.client.workspace.create(name="own", ssh_keys=[key(web1, "second")])
    assert is_let_in(web1, "second", "cs-own")
    web1.client.workspace.delete(name="own")
    assert web1.on(f"ls -A {KEYS}; getent passwd cs-own", check=False).out == "cs-ann\n"


def test_disabling_an_owner_keeps_nobody_else_out_whose_name_a_workspace_has(web1: Web1) -> None:
    """It came from somebody else; user and workspace still have one login."""
    client = web1.client
    client.workspace.create(name="old", ssh_keys=[key(web1, "second")])
    client.user.create(name="heir", ssh_keys=[key(web1, "third")])
    client.workspace.assign(name="old", user="heir")
    assert is_let_in(web1, "second", "cs-old")
    client.user.disable(name="heir")
    assert is_let_in(web1, "second", "cs-old")
    assert health(web1, "policy").startswith("ok: ")
    client.workspace.delete(name="old")
    client.user.delete(name="old")
    client.user.delete(name="heir")


@pytest.mark.long
def test_disabling_a_former_owner_ends_nothing_in_a_workspace_of_the_same_name(web1: Web1) -> None:
    """It went to somebody else; user and workspace still have one login."""
    client = web1.client
    client.workspace.create(name="old", ssh_keys=[key(web1, "second")])
    client.workspace.assign(name="old", user="ann")
    job = client.job.start(workspace="old", argv=["sleep", "1000"])
    client.workspace.create(name="next", user="old")
    web1.on(f"setsid ssh {OPTIONS} -i /root/.ssh/second cs-old@127.0.0.1 sleep 1000 >/dev/null 2>&1 </dev/null &")

    def is_in() -> bool:
        return ENTER in web1.on("ps -u cs-old -o args=", check=False).out

    web1.person.wait_until(is_in, within_s=20)
    client.user.disable(name="old")
    web1.person.wait_until(lambda: not is_in(), within_s=20)
    assert client.job.get(workspace="old", id=job.id).state == "running"
    client.user.enable(name="old")
    for name in ("next", "old"):
        client.workspace.delete(name=name)
    client.user.delete(name="old")


@pytest.mark.parametrize(
    "way", ["-W 127.0.0.1:22", "-N -L 127.0.0.1:4022:127.0.0.1:22", "-N -R 127.0.0.1:4022:127.0.0.1:22"]
)
def test_no_forwarding_reaches_the_node(web1: Web1, way: str) -> None:
    ssh = f"ssh {OPTIONS} -o ExitOnForwardFailure=yes -i /root/.ssh/first {way} cs-ann@127.0.0.1"
    # sshd refuses some of them at once; the session of the other goes on, and its port leads nowhere.
    talk = "exec 3<>/dev/tcp/127.0.0.1/4022 && timeout 20 head -c 7 <&3"
    until = "until ss -Hltn sport = :4022 | grep -q . || ! kill -0 $pid; do sleep 0.02; done"
    said = web1.on(f"{ssh} </dev/null & pid=$!; {until}; bash -c '{talk}'; kill $pid", check=False)
    assert "SSH-2.0" not in said.out


def test_environment_of_the_client_does_not_get_in(web1: Web1) -> None:
    web1.on("sed -i '1iAcceptEnv LD_* PYTHON* BASH_ENV' /etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh")
    web1.on(f"{STAYS.replace('exec sleep 1000', 'env')}")
    web1.person.wait_until(lambda: "SSH_CONNECTION" in environment(web1), within_s=20)
    assert "from-client" not in environment(web1)
    assert health(web1, "door").startswith("ok: ")
    web1.on(f"mv /root/enter.kept {ENTER}; sed -i 1d /etc/ssh/sshd_config.d/00-tests.conf; systemctl reload ssh")
    web1.person.wait_until(lambda: is_let_in(web1, "first"), within_s=20)


def environment(web1: Web1) -> str:
    names = ("LD_LIBRARY_PATH", "PYTHONSTARTUP", "BASH_ENV")
    given = " ".join(f"{name}=/from-client" for name in names)
    sent = " ".join(f"-o SendEnv={name}" for name in names)
    return web1.on(f"{given} ssh {OPTIONS} {sent} -i /root/.ssh/first cs-ann@127.0.0.1 env", check=False).out


def test_disable_ends_the_sessions_and_keeps_them_out_until_enable(web1: Web1) -> None:
    user = web1.client.user
    uid = user.get(name="ann").uid
    web1.on(STAYS)
    start = f"for n in 1 2 3; do ssh {OPTIONS} -i /root/.ssh/first cs-ann@127.0.0.1 </dev/null >/dev/null 2>&1 & done"
    web1.on(start)
    sessions = f"pgrep -u {uid} -x sleep | wc -l"
    web1.person.wait_until(lambda: web1.on(sessions).out.strip() == "3", within_s=20)
    user.disable(name="ann")
    servers = "ps -eo args | grep -E '^sshd(-session)?: cs-ann'"
    assert web1.on(f"pgrep -u {uid}; {servers}", check=False).out == ""
    web1.person.wait_until(lambda: not web1.on("pgrep -x ssh", check=False).ok, within_s=20)
    assert web1.on("getent shadow cs-ann").out.strip().split(":")[1:8:6] == ["!*", "1"]
    assert web1.on("getent passwd cs-ann").out.strip().endswith(":/usr/sbin/nologin")
    assert web1.on(f"ls -A {KEYS}").out == ""
    web1.on(f"cp /root/.ssh/first.pub {KEYS}/cs-ann")
    assert not is_let_in(web1, "first")
    web1.on(f"rm {KEYS}/cs-ann; mv /root/enter.kept {ENTER}")
    user.set_keys(name="ann", ssh_keys=[key(web1, "second")])
    assert web1.on(f"ls -A {KEYS}").out == "", "keys of a disabled user are kept, and let nobody in"
    assert health(web1, "door").startswith("ok: ")
    assert user.enable(name="ann").shell == ENTER
    assert [is_let_in(web1, name) for name in ("first", "second")] == [False, True]
    user.set_keys(name="ann", ssh_keys=[key(web1, "first")])


def test_no_user_manager_starts_for_a_login(web1: Web1) -> None:
    uid = web1.client.user.get(name="ann").uid
    web1.on("touch /var/lib/systemd/linger/cs-ann; systemctl restart systemd-logind", check=False)
    assert is_let_in(web1, "first")
    web1.on(f"systemctl start user@{uid}.service", check=False)
    assert not web1.on(f"systemctl is-active user@{uid}.service", check=False).ok
    assert web1.on(f"pgrep -u {uid}", check=False).out == ""
    assert "a lingering user manager" in health(web1, "policy")
    web1.client.user.enable(name="ann")
    assert not web1.on("ls /var/lib/systemd/linger/cs-ann", check=False).ok


def test_what_cron_and_at_would_start_is_drift_and_goes(web1: Web1) -> None:
    uid = web1.client.user.get(name="ann").uid
    job = f"/var/spool/cron/atjobs/a00001{uid}"
    web1.on(f"echo '@monthly true' | crontab -u cs-ann -; touch {job}; chown {uid}:daemon {job}")
    assert "ann it has a crontab, it has an at job" in health(web1, "policy")
    web1.client.user.enable(name="ann")
    assert not web1.on(f"ls {job} /var/spool/cron/crontabs/cs-ann", check=False).out
    assert health(web1, "policy").startswith("ok: ")


def test_an_account_of_an_earlier_state_is_drift_and_prepare_opens_it(web1: Web1) -> None:
    uid = web1.client.user.get(name="ann").uid
    web1.on(
        "usermod -e 1 -s /usr/sbin/nologin -p '!*' cs-ann; gpasswd -d cs-ann codesmith-logins; "
        f"rm /srv/codesmith/logins/{uid}"
    )
    assert not is_let_in(web1, "first")
    assert "ann it has no file in /srv/codesmith/logins" in health(web1, "policy")
    assert "prepared" in web1.person.runs("inv node.prepare").out
    assert is_let_in(web1, "first")
    assert "nothing to do" in web1.person.runs("inv node.prepare").out


def test_keys_that_differ_from_the_store_are_named_and_put_right(web1: Web1) -> None:
    web1.on(f"cp /root/.ssh/third.pub {KEYS}/cs-ann")
    assert "cs-ann" in health(web1, "door")
    assert "inv user.enable ann" in health(web1, "door")
    web1.client.user.enable(name="ann")
    assert [is_let_in(web1, name) for name in ("first", "third")] == [True, False]
    assert health(web1, "door").startswith("ok: ")


def test_a_lost_record_is_restored_and_no_key_lets_in_by_that(web1: Web1) -> None:
    made = web1.client.user.create(name="lost", ssh_keys=[key(web1, "third")])
    web1.on("systemctl stop codesmith-helper; sqlite3 /var/lib/codesmith-helper/ledger.db "
            "\"DELETE FROM users WHERE name = 'lost'; DELETE FROM logins WHERE name = 'lost'\" 2>/dev/null || "
            "python3 -c \"import sqlite3; d = sqlite3.connect('/var/lib/codesmith-helper/ledger.db'); "
            "d.execute(\\\"DELETE FROM users WHERE name = 'lost'\\\"); "
            "d.execute(\\\"DELETE FROM logins WHERE name = 'lost'\\\"); d.commit()\"")  # fmt: skip
    assert web1.client.user.enable(name="lost").uid == made.uid
    assert is_let_in(web1, "third", "cs-lost")
    web1.client.user.delete(name="lost")
    assert web1.on(f"ls -A {KEYS}; ls /srv/codesmith/logins/{made.uid}", check=False).out == "cs-ann\n"


def test_delete_ends_the_sessions_and_leaves_no_key(web1: Web1) -> None:
    made = web1.client.user.create(name="gone", ssh_keys=[key(web1, "third")])
    web1.on(STAYS)
    web1.on(f"ssh {OPTIONS} -i /root/.ssh/third cs-gone@127.0.0.1 </dev/null >/dev/null 2>&1 &")
    web1.person.wait_until(lambda: web1.on(f"pgrep -u {made.uid} -x sleep", check=False).ok, within_s=20)
    web1.on(f"touch {KEYS}/.cs-gone.new")  # as a kill leaves it
    assert web1.client.user.delete(name="gone").leftovers == []
    web1.on(f"mv /root/enter.kept {ENTER}")
    left = f"pgrep -u {made.uid}; ls {KEYS}/cs-gone {KEYS}/.cs-gone.new /srv/codesmith/logins/{made.uid}; id cs-gone"
    assert web1.on(left, check=False).out == ""
    assert not is_let_in(web1, "third", "cs-gone")
