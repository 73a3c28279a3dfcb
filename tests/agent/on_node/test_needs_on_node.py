"""What workspaces need of a node, taken away: prepare brings it or refuses, health and the doctor say the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.agent.on_node.web1 import Web1
from tests.kinds import some_of
from tests.person import Person
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = BOOKWORM_BEFORE_TRIXIE
QUIETLY = "DEBIAN_FRONTEND=noninteractive apt-get -qq"


# One that runs keeps the mounts that it began with.
STOP_HELPER = "; systemctl stop codesmith-helper.service"


@contextmanager
def on_node(web1: Web1, wrong: str, right: str) -> Iterator[None]:
    web1.on(wrong + STOP_HELPER)
    try:
        yield
    finally:
        web1.on(right + STOP_HELPER)


def health_of(web1: Web1) -> tuple[str, str]:
    checks = web1.person.runs("inv node.health --json", check=False).json[0]["checks"]
    (check,) = [one for one in checks if one["name"] == "needs"]
    return check["status"], check["detail"]


def doctor_of(web1: Web1, code: str = "node.needs") -> list[dict[str, str]]:
    rows = web1.person.runs("inv node.doctor --json", check=False).json
    return [row for row in rows if code in row["code"]]


# What is mounted there the helper must be able to start with; one that runs keeps the mounts of its start.
DISK, BASE = "mount -t tmpfs x /srv", "mkdir /srv/codesmith"
UMOUNT = "umount /srv; systemctl stop codesmith-helper.service"
NO_BUS = "systemctl mask --now dbus.socket dbus.service 2>/dev/null; rm -f /run/dbus/system_bus_socket"
# Without its bus logind holds up each login for 25 s.
BUS = "systemctl unmask dbus.socket dbus.service; systemctl start dbus.socket; systemctl restart systemd-logind"
TAKEN = {
    "no bus": (NO_BUS, BUS, "the message bus does not answer"),
    "nothing may run": (f"{DISK} -o noexec,mode=755; {BASE}", UMOUNT, "/srv is mounted noexec"),
    "nothing may be written": (
        f"{DISK} -o mode=755; {BASE}; mount -o remount,ro /srv", UMOUNT, "/srv is on a read-only file system"
    ),
    "no inodes": (f"{DISK} -o nr_inodes=99,mode=755; {BASE}", UMOUNT, "inodes free"),
    "a base for everybody": ("chmod 777 /srv", "chmod 755 /srv", "/srv can be written by others"),
    "no setpriv": ("mv /usr/bin/setpriv /root", "mv /root/setpriv /usr/bin", "no setpriv in /usr/sbin:"),
    "no useradd but ours": ("mv /usr/sbin/useradd /usr/local/sbin", "mv /usr/local/sbin/useradd /usr/sbin",
                            "/usr/local/sbin/useradd is not used"),
    "no git": ("mv /usr/bin/git /root", "mv /root/git /usr/bin", "no git in /usr/local/bin:"),
    "no ssh": ("mv /usr/bin/ssh /root", "mv /root/ssh /usr/bin", "no ssh in"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "right", "words"), some_of(TAKEN, "nothing may be written"))
def test_health_doctor_and_prepare_say_the_same(web1: Web1, wrong: str, right: str, words: str) -> None:
    with on_node(web1, wrong, right):
        status, detail = health_of(web1)
        assert (status, words in detail) == ("failing", True), detail
        rows = [row for row in doctor_of(web1) if words in row["detail"]]
        assert [row["status"] for row in rows] == ["fail"], doctor_of(web1, "")
        plan = web1.person.runs("inv node.prepare --plan --json", check=False)
        if rows[0]["next"] == "inv node.prepare --node web1":
            assert '"package"' in plan.out
        else:
            refused = json.loads(plan.err.splitlines()[-1])["error"]
            assert (words in refused["problem"], refused["hint"]) == (True, rows[0]["next"])
    assert health_of(web1)[0] == "ok"


def test_accounts_that_nobody_would_see_are_refused(web1: Web1) -> None:
    file = "/etc/nsswitch.conf"
    with on_node(web1, f"sed -i.kept 's/^group:.*/group: systemd/' {file}", f"mv {file}.kept {file}"):
        words = "does not look up group in files"
        assert words in web1.person.fails("inv node.prepare", code=1).err
        assert [row["status"] for row in doctor_of(web1) if words in row["detail"]] == ["fail"]


def test_what_health_cannot_ask_for_is_not_well(web1: Web1) -> None:
    with on_node(web1, "systemctl stop codesmith-helper.socket codesmith-helper.service",
                 "systemctl start codesmith-helper.socket"):  # fmt: skip
        status, detail = health_of(web1)
    assert (status, detail.startswith("could not look: ")) == ("degraded", True)


def test_health_answers_where_the_helper_cannot_start(web1: Web1) -> None:
    state = "/var/lib/codesmith-helper"
    stop = "systemctl stop codesmith-helper.socket codesmith-helper.service; systemctl reset-failed"
    start = "systemctl start codesmith-helper.socket"
    wrong = f"{stop}; mv {state} /root/moved; ln -s {state}-link {state}; ln -s {state} {state}-link; {start}"
    # systemd refuses a socket that was triggered too often within two seconds.
    ask = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/codesmith-helper/helper.sock\")'"
    again = f"until {start}; {ask}; systemctl is-active codesmith-helper.service; do {stop}; sleep 0.2; done"
    with on_node(web1, wrong, f"{stop}; rm {state} {state}-link; mv /root/moved {state}; {again}"):
        checks = {one["name"]: one for one in web1.person.runs("inv node.health --json", check=False).json[0]["checks"]}
        for name, words in (("needs", "could not look"), ("policy", "not checked"), ("records", "not compared")):
            assert (checks[name]["status"], words in checks[name]["detail"]) == ("degraded", True), checks[name]
    assert health_of(web1)[0] == "ok"


def test_no_user_namespaces_is_a_warning(web1: Web1) -> None:
    real = "/proc/sys/user/max_user_namespaces"
    with on_node(web1, f"echo 0 >/run/none; mount --bind /run/none {real}", f"umount {real}; rm /run/none"):
        assert any("user namespaces are forbidden" in row["detail"] for row in doctor_of(web1))


def test_git_below_usr_local_is_git_for_commands_and_clones_alike(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="demo")
    try:
        with on_node(web1, "mv /usr/bin/git /usr/local/bin/git", "mv /usr/local/bin/git /usr/bin/git"):
            assert "nothing to do" in web1.person.runs("inv node.prepare").err
            assert client.workspace.exec(name="demo", argv=["which", "git"]).stdout == "/usr/local/bin/git\n"
            client.repo.init(workspace="demo", name="site")
            (repo,) = client.repo.list(workspace="demo")
            assert repo.branch == "main"
            assert health_of(web1)[0] == "ok"
    finally:
        client.workspace.delete(name="demo")


def test_processes_out_of_sight_hinder_nothing(web1: Web1) -> None:
    with on_node(web1, "mount -o remount,hidepid=2 /proc", "mount -o remount,hidepid=0 /proc"):
        client = web1.client
        client.workspace.create(name="demo")
        assert client.workspace.exec(name="demo", argv=["id", "-un"]).stdout == "cs-demo\n"
        client.sandbox.create(workspace="demo", limits={"memory_bytes": 100 << 20}, network="none")
        client.workspace.delete(name="demo")
        assert health_of(web1)[0] == "ok"


@pytest.mark.long  # packages
def test_a_node_without_a_bus_gets_one_and_runs_commands(make_person: Callable[..., Person], release: str) -> None:
    person = make_person({"web1": release})
    person.on("web1", f"{QUIETLY} purge dbus dbus-daemon libpam-systemd; rm -f /run/dbus/system_bus_socket")
    assert person.on("web1", "command -v dbus-daemon", check=False).out == ""
    assert "dbus" in person.runs("inv node.prepare --plan --json", code=7).out
    person.runs("inv node.prepare")
    person.runs("inv workspace.create demo")
    assert person.runs("inv workspace.exec demo -- id -un").out == "cs-demo\n"
    assert "nothing to do" in person.runs("inv node.prepare").err
