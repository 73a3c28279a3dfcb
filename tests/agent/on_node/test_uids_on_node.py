"""Uids of users on real nodes: nobody else's, also near the last one that there is, and in a container with 65536."""

from __future__ import annotations

import json

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
FILE = "/etc/codesmith/uids.json"
USUAL = [1879048192, 2147483646]
LEDGER = "/var/lib/codesmith-helper/ledger.db"


def move_mark(web1: Web1, uid: int) -> None:
    """Have the next user get this uid."""
    sql = f"INSERT OR REPLACE INTO marks VALUES ({USUAL[0]}, {uid})"
    web1.on(f'python3 -c \'import sqlite3; d = sqlite3.connect("{LEDGER}"); d.execute("{sql}"); d.commit()\'')
    web1.on("rm -f /srv/codesmith/.next-uid")  # where the helper keeps it too


def test_prepare_chooses_a_range_and_remembers_it(web1: Web1) -> None:
    assert json.loads(web1.on(f"cat {FILE}").out) == {"ranges": [USUAL]}
    assert web1.on(f"stat -c '%U %a' {FILE}").out == "root 644\n"
    before = web1.client.user.create(name="before")
    assert before.uid == USUAL[0]
    web1.on(f"rm {FILE}")
    try:
        refusal = web1.refuses(web1.client.user.create, "unsupported", name="lost")
        assert refusal.hint == "inv node.prepare"
        assert web1.client.user.get(name="before").uid == before.uid
        health = {check.name: check for check in web1.client.node.health().checks}
        assert health["uids"].status == "failing"
        assert f"uids\t{FILE}\tmissing" in web1.person.runs("inv node.verify", code=1).out
        rows = {row["code"]: row for row in web1.person.runs("inv node.doctor --json", code=1).json}
        assert (rows["node.uids"]["status"], rows["node.uids"]["next"]) == ("fail", "inv node.prepare --node web1")
        assert web1.client.user.disable(name="before").state == "disabled"
        assert web1.client.user.enable(name="before").state == "active"
    finally:
        web1.person.runs("inv node.prepare")
    assert json.loads(web1.on(f"cat {FILE}").out) == {"ranges": [USUAL]}
    web1.client.user.delete(name="before")


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("/etc/subuid", "somebody"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("/etc/subuid", "1234"), ("/etc/subgid", "somebody"))
        ),
    ],
)
def test_what_becomes_a_subordinate_is_left_out_and_told(web1: Web1, file: str, owner: str) -> None:
    mine = web1.client.user.create(name="mine")
    web1.on(f"cp -p {file} /root/kept; printf '{owner}:{mine.uid}:100000\\n' >> {file}")
    try:
        other = web1.client.user.create(name="other")
        assert other.uid == mine.uid + 100000
        where = f"is in the range of {owner} in {file} ({mine.uid} to {mine.uid + 99999})"
        assert web1.client.user.get(name="mine").drift == [f"its uid {mine.uid} {where}"]
        assert web1.client.user.get(name="other").drift == []
        health = {check.name: check for check in web1.client.node.health().checks}
        assert (health["uids"].status, health["uids"].detail) == ("degraded", f"uid {mine.uid} of cs-mine {where}")
        assert f"uid {mine.uid} of cs-mine {where}" in web1.person.runs("inv node.verify", code=1).out
        rows = {row["code"]: row for row in web1.person.runs("inv node.doctor --json").json}
        assert rows["node.uids"]["status"] == "warn"
        assert where in rows["node.uids"]["detail"]
    finally:
        web1.on(f"cp -p /root/kept {file}")
    assert web1.client.node.health().status == "ok"
    for name in ("mine", "other"):
        web1.client.user.delete(name=name)


def test_a_range_that_becomes_all_somebodys_is_told(web1: Web1) -> None:
    web1.on(f"cp -p /etc/subuid /root/kept; printf 'x:{USUAL[0]}:{USUAL[1] - USUAL[0] + 1}\\n' >> /etc/subuid")
    try:
        refusal = web1.refuses(web1.client.user.create, "unsupported", name="none")
        assert refusal.hint == "inv node.prepare"
        health = {check.name: check for check in web1.client.node.health().checks}
        assert health["uids"].status == "failing"
        assert "are somebody's in /etc/subuid or /etc/subgid" in health["uids"].detail
    finally:
        web1.on("cp -p /root/kept /etc/subuid")
    assert web1.client.node.health().status == "ok"


def test_a_restored_file_of_ranges_leaves_no_user_behind(web1: Web1) -> None:
    made = web1.client.workspace.create(name="behind")
    web1.on(f"""echo '{{"ranges": [[70000, 99999]]}}' > {FILE}""")
    try:
        health = {check.name: check for check in web1.client.node.health().checks}
        assert "cs-behind" in health["accounts"].detail
        web1.person.runs("inv node.prepare")
        assert json.loads(web1.on(f"cat {FILE}").out) == {"ranges": [[70000, 99999], USUAL]}
        assert web1.client.workspace.get(name="behind").login == made.login
        assert web1.client.node.health().status == "ok"
    finally:
        web1.on(f"""echo '{{"ranges": [{USUAL}]}}' > {FILE}""")
    assert web1.client.workspace.delete(name="behind").user_deleted


@pytest.mark.parametrize("harm", ["chmod 666", pytest.param("chown games", marks=pytest.mark.long)])
def test_ranges_that_others_may_have_written_are_not_believed(web1: Web1, harm: str) -> None:
    web1.on(f"{harm} {FILE}")
    try:
        assert web1.refuses(web1.client.user.create, "unsupported", name="none").hint == "inv node.prepare"
        health = {check.name: check for check in web1.client.node.health().checks}
        assert health["uids"].status == "failing"
    finally:
        web1.person.runs("inv node.prepare")
    assert web1.client.node.health().status == "ok"


def test_no_uid_is_given_out_twice_nor_one_that_somebody_has(web1: Web1) -> None:
    first = web1.client.user.create(name="first")
    web1.client.user.delete(name="first")
    web1.on(f"groupadd -g {first.uid + 1} taken; useradd -u {first.uid + 2} -g taken taken2")
    second = web1.client.user.create(name="second")
    assert second.uid == first.uid + 3
    web1.client.user.delete(name="second")
    web1.on("userdel taken2; groupdel taken")


TOOLS = """
set -e; cd /root; rm -rf x.tar out; home=/srv/codesmith/home/cs-last
setpriv --reuid=cs-last --regid=cs-last --clear-groups sh -c "echo text >$home/file; sleep 600 >/dev/null 2>&1 &"
test "$(ps -o user:20= -u cs-last | sort -u)" = cs-last
tar -cf x.tar -C $home file; mkdir out; tar -xpf x.tar -C out; stat -c %u out/file
setfacl -m u:cs-last:r x.tar; getfacl -c x.tar | grep cs-last
crontab -u cs-last -l | wc -l
systemd-run --quiet --pipe --uid=cs-last -p PrivateUsers=yes id -u
! command -v lastlog >/dev/null || lastlog -u cs-last | tail -n 1
"""


def test_the_last_uids_there_are_work_everywhere(web1: Web1) -> None:
    move_mark(web1, USUAL[1])
    user = web1.client.user.create(name="last")
    assert user.uid == USUAL[1]
    refusal = web1.refuses(web1.client.user.create, "limit", name="further")
    assert "have been given out" in refusal.problem
    web1.client.workspace.create(name="last", user="last")
    web1.client.sandbox.create(workspace="last", limits={"memory_bytes": 256 << 20}, network="none")
    said = web1.client.workspace.exec(name="last", argv=["sh", "-c", "id -u; echo x > data/x; stat -c %u data/x"])
    assert said.stdout == f"{user.uid}\n{user.uid}\n"
    web1.on("echo '* * * * * true' | crontab -u cs-last -")
    lines = web1.on(TOOLS).out.splitlines()
    assert lines[:2] == [str(user.uid), "user:cs-last:r--"]
    assert lines[2:4] == ["1", str(user.uid)]
    assert not lines[4:] or lines[4].startswith("cs-last")
    assert web1.client.user.disable(name="last").state == "disabled"
    assert not web1.on(f"ps -o pid= -u {user.uid}", check=False).out
    assert web1.client.user.enable(name="last").state == "active"
    web1.client.workspace.delete(name="last")
    assert web1.client.user.delete(name="last").leftovers == []
    assert "cs-last" not in web1.on("pwck -r; grpck -r", check=False).out
    move_mark(web1, USUAL[0] + 1000000)


@pytest.mark.long
def test_a_node_from_before_there_was_a_choice_keeps_its_users_and_moves_for_new_ones(web1: Web1) -> None:
    web1.on(f"echo '{{\"ranges\": [[70000, 99999]]}}' > {FILE}")
    old = web1.client.user.create(name="old")
    assert old.uid == 70000
    path = "/etc/codesmith/ledger.json"
    forget = f'import json; d = json.load(open("{path}")); del d["uids"]; json.dump(d, open("{path}", "w"))'
    web1.on(f"rm {FILE}; python3 -c '{forget}'")
    web1.person.runs("inv node.prepare")
    assert json.loads(web1.on(f"cat {FILE}").out) == {"ranges": [USUAL, [70000, 99999]]}
    assert web1.client.user.get(name="old").uid == 70000
    assert "old" in [user.name for user in web1.client.user.list()]
    assert web1.client.user.disable(name="old").state == "disabled"
    assert web1.client.user.enable(name="old").state == "active"
    assert web1.client.user.create(name="new").uid >= USUAL[0]
    assert web1.client.node.health().status == "ok"
    assert web1.client.user.delete(name="old").leftovers == []
    web1.client.user.delete(name="new")
