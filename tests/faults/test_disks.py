"""Full disks, a read-only /etc, held locks, damaged ledgers: refused whole; a retry succeeds when the cause is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.agent.on_node.web1 import Web1, calling
from tests.kinds import some_of
from tests.person import Person

pytestmark = pytest.mark.lab

# One disk for /etc and the ledger, as on most nodes; one for the front end's store; one for homes and workspaces.
DISKS = """
set -e
small() { mkdir -p "$1"; mount -t tmpfs -o "mode=755,size=$2" small "$1"; }
small /mnt/system 16m
cp -a /etc /mnt/system/etc
mkdir -m 700 /mnt/system/helper /var/lib/codesmith-helper
mount --bind /mnt/system/etc /etc
mount --bind /mnt/system/helper /var/lib/codesmith-helper
small /var/lib/codesmith 8m
small /srv 16m
"""
LEDGER = "/var/lib/codesmith-helper/ledger.db"
STATE = """
cat /etc/passwd /etc/shadow /etc/group /etc/gshadow
ls -lAn /srv/codesmith/home /srv/codesmith/workspaces /srv/codesmith/.staging /srv/codesmith/.trash
ls -A /etc | grep -E '^(passwd|shadow|group|gshadow)' | grep -v -- '-$'
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
HOLD = (
    'import fcntl, time; file = open("/etc/.pwd.lock", "w"); fcntl.lockf(file, 2); print(1, flush=True); time.sleep(99)'
)


class Fragile(Web1):
    """A prepared node with small disks."""

    @contextmanager
    def full(self, folder: str) -> Iterator[None]:
        """Leave no room on the disk of a folder."""
        self.on(f"cat /dev/zero > {folder}/filler", check=False)
        try:
            yield
        finally:
            self.on(f"rm {folder}/filler")

    @contextmanager
    def read_only_etc(self) -> Iterator[None]:
        """Take the right to write to /etc away."""
        self.on("mount -o remount,bind,ro /etc; systemctl stop codesmith-helper.service")
        try:
            yield
        finally:
            self.on("mount -o remount,bind,rw /etc; systemctl stop codesmith-helper.service")

    @contextmanager
    def background(self, command: str) -> Iterator[str]:
        """Run a program until the end; its pid."""
        self.on(f"nohup {command} >/tmp/said 2>&1 & echo $! >/tmp/pid")
        pid = self.on("cat /tmp/pid").out.strip()
        try:
            yield pid
        finally:
            self.on(f"kill -9 {pid}; while kill -0 {pid}; do sleep 0.02; done 2>/dev/null", check=False)

    def state(self) -> str:
        """Return what must be as before after a refusal."""
        return self.on(STATE).out

    def refuses_whole(self, call: Callable[..., Any], kind: str, **params: Any) -> str:
        """Make a call that must be refused and change nothing; return what it says."""
        before = self.state()
        refusal = self.refuses(call, kind, **params)
        assert refusal.hint
        assert self.state() == before
        assert [
            one.name for one in self.client.node.health().checks if one.status == "degraded" and one.name == "pending"
        ] == []
        return str(refusal)

    def status_of(self, check: str) -> tuple[str, str]:
        """Return what node.health says about one thing."""
        (found,) = [one for one in self.client.node.health().checks if one.name == check]
        return found.status, found.detail


@pytest.fixture(scope="module")
def fragile(make_person: Callable[..., Person]) -> Iterator[Fragile]:
    person = make_person({"web1": "bookworm"})
    person.on("web1", DISKS)
    person.prepare()
    with calling(person) as web1:
        yield Fragile(web1.person, web1.client)


@pytest.fixture
def node(fragile: Fragile) -> Iterator[Fragile]:
    """The node of this module, with a connection for this test alone: some restart the agent."""
    yield fragile
    fragile.client.close()


# The helper's disk is that of /etc, too, and is full in a test of its own.
@pytest.mark.parametrize(
    "folder", ["/var/lib/codesmith", pytest.param("/var/lib/codesmith-helper", marks=pytest.mark.long)]
)
def test_a_full_disk_of_a_store_refuses_what_is_new_and_deletes(node: Fragile, folder: str) -> None:
    client = node.client
    client.user.create(name="old", ssh_keys=[KEY])
    client.workspace.create(name="gone")
    client.workspace.create(name="kept", user="old")
    with node.full(folder):
        node.refuses_whole(client.user.create, "limit", name="new")
        node.refuses_whole(client.workspace.create, "limit", name="new")
        if folder == "/var/lib/codesmith":  # the keys are there alone
            node.refuses_whole(client.user.set_keys, "limit", name="old", ssh_keys=[])
        for call in (client.workspace.assign, client.workspace.share):
            node.refuses_whole(call, "limit", name="gone", user="old")
        assert client.workspace.exec(name="kept", argv=["id", "-un"]).stdout == "cs-kept\n"
        assert client.workspace.delete(name="gone").user_deleted
        assert client.user.disable(name="old").state == "disabled"
        assert client.workspace.delete(name="kept").deleted
        assert client.user.delete(name="old").deleted
        assert client.user.list() == client.workspace.list() == []
        told = [(one.method, one.outcome) for one in client.audit.list(limit=4)]
        assert told[::-1] == [
            ("workspace.delete", "ok"), ("user.disable", "ok"), ("workspace.delete", "ok"), ("user.delete", "ok"),
        ]  # fmt: skip
        if folder == "/var/lib/codesmith":
            assert node.status_of("store")[0] == "degraded"
    assert client.workspace.create(name="new").state == "ready"
    assert node.on(f"stat -c %s {folder}/ballast").out == f"{1 << 20}\n"
    assert client.workspace.delete(name="new").user_deleted
    assert client.node.health().status in ("ok", "degraded")
    assert node.status_of("store") == ("ok", "readable and writable")


def test_a_full_disk_of_homes_and_workspaces_leaves_nothing_half_done(node: Fragile) -> None:
    client = node.client
    client.user.create(name="old", ssh_keys=[KEY])
    client.workspace.create(name="given")
    with node.full("/srv"):
        node.refuses_whole(client.user.create, "limit", name="new", ssh_keys=[KEY])
        node.refuses_whole(client.workspace.create, "limit", name="new")
        node.refuses_whole(client.workspace.create, "limit", name="new", user="old")
        # No tree changes hands, so it takes no room.
        assert client.workspace.assign(name="given", user="old").user == "old"
        assert client.user.disable(name="old").state == "disabled"
        assert client.user.enable(name="old").state == "active"
    assert client.workspace.create(name="new").state == "ready"
    assert node.status_of("pending")[0] == "ok"
    for name in ("given", "new"):
        client.workspace.delete(name=name)
    for name in ("given", "old"):
        client.user.delete(name=name)


def test_a_full_disk_of_etc_stops_no_deletion(node: Fragile) -> None:
    client = node.client
    for name in ("one", "two"):
        client.user.create(name=name)
    client.workspace.create(name="three")
    with node.full("/mnt/system"):
        node.refuses_whole(client.user.create, "limit", name="new")
        assert client.user.delete(name="one").deleted
        assert client.workspace.delete(name="three").user_deleted
        assert client.user.disable(name="two").state == "disabled"
        node.on("cat /dev/zero > /mnt/system/filler2", check=False)
        node.refuses_whole(client.user.enable, "limit", name="two")
        node.refuses_whole(client.user.delete, "limit", name="two")
        node.on("rm /mnt/system/filler2")
    assert client.user.enable(name="two").state == "active"
    assert client.user.delete(name="two").deleted


def test_a_read_only_etc_refuses_what_changes_accounts(node: Fragile) -> None:
    client = node.client
    client.user.create(name="fixed")
    client.user.create(name="off")
    client.user.disable(name="off")
    client.workspace.create(name="fixed1", ssh_keys=[KEY])
    with node.read_only_etc():
        said = node.refuses_whole(client.user.create, "command_failed", name="new")
        assert "Read-only file system" in said
        node.refuses_whole(client.workspace.create, "command_failed", name="new")
        node.refuses_whole(client.workspace.delete, "command_failed", name="fixed1")
        node.refuses_whole(client.user.delete, "command_failed", name="fixed")
        node.refuses_whole(client.user.enable, "command_failed", name="off")
        node.refuses_whole(client.user.disable, "command_failed", name="fixed1")
        node.refuses_whole(client.user.set_keys, "command_failed", name="fixed1", ssh_keys=[])
        node.refuses_whole(client.user.add_keys, "command_failed", name="fixed", ssh_keys=[KEY])
        assert client.workspace.exec(name="fixed1", argv=["id", "-un"]).stdout == "cs-fixed1\n"
    assert client.workspace.delete(name="fixed1").user_deleted
    for name in ("fixed", "off"):
        assert client.user.disable(name=name).state == "disabled"
        assert client.user.delete(name=name).deleted


def test_held_account_locks_are_told_and_left_ones_removed(node: Fragile) -> None:
    client = node.client
    client.user.create(name="held")
    with node.background(f"python3 -c '{HOLD}'"):
        node.person.wait_until(lambda: node.on("cat /tmp/said").out == "1\n", within_s=20)
        assert "holds the lock" in node.refuses_whole(client.user.delete, "in_use", name="held")
    with node.background("sleep 99") as pid:
        node.on(f"printf {pid} > /etc/passwd.lock")
        for call, name in ((client.user.create, "new"), (client.user.delete, "held")):
            assert f"process {pid} holds /etc/passwd.lock" in node.refuses_whole(call, "in_use", name=name)
        # Made long before that process began: of another one that had its pid before a power cut.
        node.on(
            "touch -d '2001-01-01' /etc/passwd.lock; printf 4194000 > /etc/group.lock; printf x > /etc/shadow.4194000"
        )
        assert client.user.create(name="new").state == "active"
    node.on("printf 4194000 > /etc/gshadow.lock")
    for name in ("new", "held"):
        assert client.user.delete(name=name).deleted
    assert node.on("ls /etc | grep -E '^(passwd|shadow|group|gshadow)[.]'", check=False).out == ""


STORE = "/var/lib/codesmith/state.db"
# What somebody may do to the front end's store, and the way back.
HARMS = {
    "another owner": (f"chown root {STORE}; chmod 644 {STORE}", f"chown codesmith {STORE}; chmod 600 {STORE}"),
    "a disk to read": ("mount -o remount,ro /var/lib/codesmith", "mount -o remount,rw /var/lib/codesmith"),
    "gone": (f"mv {STORE} /root/state.db", f"mv /root/state.db {STORE}"),
}


@pytest.mark.parametrize(("harm", "cure"), some_of(HARMS, "a disk to read"))
def test_a_store_that_cannot_be_written_is_read_only_and_says_so(node: Fragile, harm: str, cure: str) -> None:
    client, checkpoint = node.client, "PRAGMA wal_checkpoint(TRUNCATE)"
    client.user.create(name="safe")
    agent = "codesmith-agent.service"
    node.on(
        f'systemctl stop {agent}; python3 -c \'import sqlite3; sqlite3.connect("{STORE}").execute("{checkpoint}")\''
    )
    node.on(f"rm -f {STORE}-wal {STORE}-shm; {harm}; systemctl start {agent}")
    node.refuses_whole(client.user.create, "read_only", name="new")
    node.refuses(client.user.list, "read_only")
    assert node.status_of("store")[0] == "failing"
    node.on(f"systemctl stop {agent}; {cure}; systemctl start {agent}")
    assert [user.name for user in client.user.list()] == ["safe"]
    assert client.user.delete(name="safe").deleted
    assert node.status_of("store") == ("ok", "readable and writable")


def test_an_agent_that_starts_on_a_full_disk_needs_no_second_start(node: Fragile) -> None:
    client = node.client
    client.user.create(name="safe")
    with node.full("/var/lib/codesmith"):
        # As a power cut leaves it: what SQLite keeps in memory is to be made anew, and there is no ballast to let go.
        node.on(
            "systemctl stop codesmith-agent.service; cd /var/lib/codesmith; rm -f ballast state.db-shm;"
            "cat /dev/zero > filler2; systemctl start codesmith-agent.service", check=False,
        )  # fmt: skip
        assert "is full" in node.refuses_whole(client.user.create, "read_only", name="new")
        assert "is full" in node.status_of("store")[1]
        node.on("rm /var/lib/codesmith/filler2")
    node.person.wait_until(lambda: node.person.runs("inv user.list", check=False).ok, within_s=30)
    client.close()
    assert client.user.delete(name="safe").deleted


DAMAGES = {
    "empty": f"truncate -s 0 {LEDGER}",
    "cut short": f"truncate -s 9000 {LEDGER}",
    "garbage": f"head -c 8192 /dev/urandom > {LEDGER}",
    "a page": f"dd if=/dev/urandom of={LEDGER} bs=4096 seek=1 count=1 conv=notrunc 2>/dev/null",
    "newer": f'python3 -c \'import sqlite3; sqlite3.connect("{LEDGER}").execute("PRAGMA user_version = 9")\'',
    "foreign": f'rm {LEDGER}; python3 -c \'import sqlite3; sqlite3.connect("{LEDGER}").execute("CREATE TABLE a (b)")\'',
}


@pytest.mark.parametrize("damage", some_of(DAMAGES, "a page", "newer"))
def test_a_damaged_ledger_changes_nothing_and_stays_as_it_is(node: Fragile, damage: str) -> None:
    client = node.client
    client.user.create(name="safe")
    node.on("systemctl stop codesmith-helper.service")
    node.on(f"cp -a {LEDGER} /root/ledger")
    node.on(damage)
    before = node.on(f"sha256sum {LEDGER}").out
    node.refuses_whole(client.user.create, "read_only", name="new")
    node.refuses_whole(client.user.delete, "read_only", name="safe")
    assert node.status_of("helper")[0] == "failing"
    assert "ledger is damaged" in node.status_of("helper")[1]
    assert node.on(f"sha256sum {LEDGER}").out == before
    node.on(f"rm -f {LEDGER}*; cp -a /root/ledger {LEDGER}")
    assert client.user.delete(name="safe").deleted
    assert node.status_of("helper")[0] == "ok"
