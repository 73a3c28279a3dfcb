"""Files that cannot be changed: what needs them is refused before anything is done, or it is done whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from codesmith.errors import AgentRefused
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_of
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
HOME, PLACE = "/srv/codesmith/home/cs-fixed", "/srv/codesmith/workspaces/fixed"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
STATE = """
cat /etc/passwd /etc/shadow /etc/group /etc/gshadow
stat -c '%n %U %a' /srv/codesmith/home/* /srv/codesmith/workspaces/*
ls -AR /srv/codesmith/.staging /srv/codesmith/.trash
ls -A /etc | grep -E '^(passwd|shadow|group|gshadow|sub.id)[.+]'
"""


def fixed(path: str, flag: str = "i") -> tuple[str, str]:
    return f"chattr +{flag} {path}", f"chattr -{flag} {path}"


def mounted(path: str, options: str = "") -> tuple[str, str]:
    remount = f"; mount -o remount,bind,{options} {path}" if options else ""
    # A helper that runs already has the mounts of its start.
    anew = "systemctl stop codesmith-helper.service"
    return f"mount --bind {path} {path}{remount}; {anew}", f"umount {path}; {anew}"


# How it is made and undone, and what is refused then: create, disable, and workspace.delete with its user.
HARMS = {
    "passwd immutable": (*fixed("/etc/passwd"), "create disable delete"),
    "passwd append-only": (*fixed("/etc/passwd", "a"), "create disable delete"),
    "shadow immutable": (*fixed("/etc/shadow"), "create disable delete"),
    "shadow append-only": (*fixed("/etc/shadow", "a"), "create disable delete"),
    "group immutable": (*fixed("/etc/group"), "create delete"),
    "gshadow immutable": (*fixed("/etc/gshadow"), "create delete"),
    "the backup of passwd": (*fixed("/etc/passwd-"), "create disable delete"),
    "the backup of shadow": (*fixed("/etc/shadow-"), "create disable delete"),
    "the backup of group": (*fixed("/etc/group-"), "create delete"),
    "the backup of gshadow": (*fixed("/etc/gshadow-", "a"), "create delete"),
    "subuid": (*fixed("/etc/subuid"), "create delete"),
    "the backup of subgid": (*fixed("/etc/subgid-"), "create delete"),
    "the lock": (*fixed("/etc/.pwd.lock"), "create disable delete"),
    "a new passwd that was left": ("mkdir /etc/passwd+", "rmdir /etc/passwd+", "create disable delete"),
    "all of /etc immutable": (*fixed("/etc"), "create disable delete"),
    "all of /etc append-only": (*fixed("/etc", "a"), "create disable delete"),
    "shadow mounted": (*mounted("/etc/shadow"), "create disable delete"),
    "passwd mounted to read": (*mounted("/etc/passwd", "ro"), "create disable delete"),
    "gshadow mounted": (*mounted("/etc/gshadow"), "create delete"),
    "the home": (*fixed(HOME), "disable delete"),
    "the workspace": (*fixed(PLACE), "disable delete"),
    "homes and workspaces to read": (*mounted("/srv/codesmith", "ro"), "create disable delete"),
}


@pytest.fixture
def fixed_one(web1: Web1) -> Iterator[Web1]:
    """A workspace with its user, whose account a key keeps open."""
    web1.client.workspace.create(name="fixed", ssh_keys=[KEY])
    web1.on("touch /etc/subuid- /etc/subgid- /etc/subuid /etc/subgid")
    yield web1
    for workspace in web1.client.workspace.list():
        web1.client.workspace.delete(name=workspace.name)
    for user in web1.client.user.list():
        web1.client.user.delete(name=user.name)
    web1.on("chattr -R -ia /srv/codesmith/.trash", check=False)


def is_refused_whole(web1: Web1, call: Callable[..., Any], **params: Any) -> bool:
    """Make a call that is refused and changes nothing, or done."""
    before = web1.on(STATE, check=False).out
    try:
        call(**params)
    except AgentRefused as refusal:
        assert refusal.rpc_kind in ("command_failed", "in_use") and refusal.hint, refusal
        assert web1.on(STATE, check=False).out == before, refusal
        pending = [one.detail for one in web1.client.node.health().checks if one.name == "pending"]
        assert pending == ["no change is pending"], refusal
        return True
    return False


@pytest.mark.parametrize(
    ("harm", "cure", "refused"),
    some_of(
        HARMS, "passwd immutable", "the backup of group", "a new passwd that was left", "gshadow mounted",
        "the workspace",
    ),
)  # fmt: skip
def test_what_cannot_be_changed_is_refused_whole(fixed_one: Web1, harm: str, cure: str, refused: str) -> None:
    web1, client, found = fixed_one, fixed_one.client, []
    web1.on(harm)
    try:
        if is_refused_whole(web1, client.user.create, name="new"):
            found.append("create")
        if is_refused_whole(web1, client.user.disable, name="fixed"):
            found.append("disable")
        else:
            assert web1.on(f"stat -c '%U %a' {HOME} {PLACE}").out == "root 0\nroot 0\n"
        if is_refused_whole(web1, client.workspace.delete, name="fixed"):
            found.append("delete")
        else:
            assert not web1.on(f"grep -h ^cs-fixed: /etc/passwd /etc/shadow; ls -d {HOME} {PLACE}", check=False).out
    finally:
        web1.on(cure, check=False)
    assert " ".join(found) == refused


@pytest.mark.parametrize("database", ["group", pytest.param("gshadow", marks=pytest.mark.long)])
def test_who_is_in_a_group_that_cannot_be_changed_is_closed_out_all_the_same(fixed_one: Web1, database: str) -> None:
    client, (harm, cure) = fixed_one.client, fixed(f"/etc/{database}")
    fixed_one.on(f"usermod --append --groups adm cs-fixed; {harm}")
    try:
        assert client.user.disable(name="fixed").state == "disabled"
        assert fixed_one.on(f"stat -c '%U %a' {HOME} {PLACE}").out == "root 0\nroot 0\n"
        assert client.user.get(name="fixed").drift == ["in the group adm"]
        assert is_refused_whole(fixed_one, client.user.enable, name="fixed")
    finally:
        fixed_one.on(cure)
    assert client.user.enable(name="fixed").state == "active"
    assert fixed_one.on("id -Gn cs-fixed").out == "cs-fixed codesmith-logins\n"


@pytest.mark.parametrize("place", [PLACE, pytest.param(HOME, marks=pytest.mark.long)])
def test_places_that_cannot_be_closed_are_told(fixed_one: Web1, place: str) -> None:
    harm, cure = fixed(place)
    # Its first start makes the place of its facts there.
    assert fixed_one.client.workspace.exec(name="fixed", argv=["true"]).exit_code == 0
    fixed_one.on(harm)
    refusal = fixed_one.refuses(fixed_one.client.user.disable, "command_failed", name="fixed")
    assert place in str(refusal) and "chattr" in str(refusal.hint)
    assert fixed_one.client.workspace.exec(name="fixed", argv=["true"]).exit_code == 0
    fixed_one.on(cure)
    assert fixed_one.client.user.disable(name="fixed").state == "disabled"
