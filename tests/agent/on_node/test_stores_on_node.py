"""Stores of another time than the node: nothing that is there is called deleted, and node.health names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codesmith.errors import AgentRefused
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_of
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
STORE, LEDGER = "/var/lib/codesmith", "/var/lib/codesmith-helper"
# With their sockets: a call that comes meanwhile would start them again.
SOCKETS = "codesmith-agent.socket codesmith-door.socket codesmith-scoped.socket codesmith-helper.socket"
STOP = f"systemctl stop {SOCKETS} codesmith-agent.service codesmith-helper.service"
START = "systemctl reset-failed; systemctl start codesmith-agent.service"
TRACES = """
grep -H ^cs-late: /etc/passwd /etc/shadow /etc/group /etc/gshadow
ls -d /srv/codesmith/home/cs-late /srv/codesmith/workspaces/late
"""
BOTH_GONE = "both are gone with their ballast"
# What is lost, as a list of (folder, its content from an hour ago or nothing).
LOSSES = {
    "the ledger is from an hour ago": [(LEDGER, True)],
    "the ledger's folder is empty": [(LEDGER, False)],
    "the store is from an hour ago": [(STORE, True)],
    "the store's folder is empty": [(STORE, False)],
    "both are from an hour ago": [(LEDGER, True), (STORE, True)],
    BOTH_GONE: [(LEDGER, False), (STORE, False)],
}


def start(web1: Web1) -> None:
    """Start the agent, which was stopped, and wait until it answers."""
    web1.on(START)
    web1.client.close()
    web1.wait_until_it_answers()


@contextmanager
def an_hour_passes(web1: Web1, loss: list[tuple[str, bool]]) -> Iterator[None]:
    """Keep the stores; lose what was written since when this is left. What was there before comes back at the end."""
    web1.on(f"{STOP}; rm -rf /root/then; mkdir /root/then; cp -a --parents {STORE} {LEDGER} /root/then")
    start(web1)
    yield
    web1.on(f"{STOP}")
    for folder, is_kept in loss:
        web1.on(f"find {folder} -mindepth 1 -delete")
        if is_kept:
            web1.on(f"cp -a /root/then{folder}/. {folder}")
    start(web1)


def records(web1: Web1) -> str:
    """Return what node.health says about store, ledger and node."""
    (found,) = [one for one in web1.client.node.health().checks if one.name == "records"]
    return f"{found.status}: {found.detail}"


def clear(web1: Web1) -> None:
    """Delete all that the API shows."""
    for workspace in web1.client.workspace.list():
        web1.client.workspace.delete(name=workspace.name)
    for user in web1.client.user.list():
        web1.client.user.delete(name=user.name)


@pytest.mark.parametrize("loss", some_of(LOSSES, "the ledger is from an hour ago", BOTH_GONE))
def test_what_a_store_has_forgotten_is_deleted_whole(web1: Web1, loss: list[tuple[str, bool]]) -> None:
    assert records(web1).startswith("ok"), records(web1)
    with an_hour_passes(web1, loss):
        web1.client.workspace.create(name="late", ssh_keys=[KEY])
    named = records(web1)
    assert named.startswith("degraded") and named.count("late") >= 2, named
    assert "workspace.delete late" in named
    if len(loss) == 2:  # what was lost is not adopted with all that is in it
        assert "workspace.delete late" in str(
            web1.refuses(web1.client.workspace.create, "not_managed", name="late").hint
        )
    # Not while its workspace is there.
    web1.refuses(web1.client.user.delete, "in_use", name="late")
    web1.client.workspace.delete(name="late")
    if web1.on("getent passwd cs-late", check=False).ok:
        assert "cs-late" in records(web1) or "user late" in records(web1)
        assert web1.client.user.delete(name="late").deleted
    assert web1.on(TRACES, check=False).out == ""
    assert records(web1).startswith("ok"), records(web1)


@pytest.mark.parametrize("loss", some_of(LOSSES, BOTH_GONE))
def test_a_user_that_a_store_has_forgotten_is_deleted_whole(web1: Web1, loss: list[tuple[str, bool]]) -> None:
    with an_hour_passes(web1, loss):
        uid = web1.client.user.create(name="late", ssh_keys=[KEY]).uid
    assert "late" in records(web1), records(web1)
    if len(loss) == 2:  # what was lost is not adopted with all that is in it
        assert "user.delete late" in str(web1.refuses(web1.client.user.create, "not_managed", name="late").hint)
    assert web1.client.user.delete(name="late").deleted
    assert web1.on(TRACES, check=False).out == ""
    # No uid is given twice, whatever the ledger knows.
    assert web1.client.user.create(name="late").uid > uid
    web1.client.user.delete(name="late")


@pytest.mark.parametrize("kept", some_of({"from an hour ago": True, "emptied": False}, "from an hour ago"))
def test_a_user_whom_the_ledger_has_forgotten_is_closed_out_and_let_in_again(web1: Web1, kept: bool) -> None:
    with an_hour_passes(web1, [(LEDGER, kept)]):
        web1.client.workspace.create(name="late", ssh_keys=[KEY])
        before = web1.on("getent shadow cs-late; getent passwd cs-late").out
    assert web1.client.user.disable(name="late").state == "disabled"
    places = "stat -c '%U %a' /srv/codesmith/home/cs-late /srv/codesmith/workspaces/late"
    assert web1.on(places).out == "root 0\nroot 0\n"
    assert web1.client.user.enable(name="late").state == "active"
    assert web1.on("getent shadow cs-late; getent passwd cs-late").out == before
    assert web1.on(places).out == "cs-late 700\ncs-late 700\n"
    assert web1.client.workspace.exec(name="late", argv=["id", "-un"]).stdout == "cs-late\n"
    assert web1.client.workspace.delete(name="late").user_deleted
    assert web1.on(TRACES, check=False).out == ""


@pytest.mark.parametrize("kept", some_of({"from an hour ago": True, "emptied": False}, "from an hour ago"))
def test_who_was_closed_out_since_is_not_taken_for_open(web1: Web1, kept: bool) -> None:
    web1.client.workspace.create(name="late", ssh_keys=[KEY])
    before = web1.on("getent shadow cs-late; getent passwd cs-late").out
    with an_hour_passes(web1, [(LEDGER, kept)]):
        web1.client.user.disable(name="late")
    assert "late" in records(web1)
    if kept:
        assert "user late is active, but workspace late is closed (inv user.enable late)" in records(web1)
        answer = web1.helper({"verb": "runtime.start", "arguments": {"workspace": "late", "for_clone": False}})
        assert answer.json["error"]["data"]["kind"] == "not_managed", answer
    web1.client.user.disable(name="late")
    web1.client.user.enable(name="late")
    assert web1.on("getent shadow cs-late; getent passwd cs-late").out == before
    assert web1.client.workspace.exec(name="late", argv=["id", "-un"]).stdout == "cs-late\n"
    assert web1.client.workspace.delete(name="late").user_deleted
    assert web1.on(TRACES, check=False).out == ""


@pytest.mark.long
def test_prepare_puts_right_an_account_that_the_ledger_has_forgotten(web1: Web1) -> None:
    with an_hour_passes(web1, [(LEDGER, True)]):
        web1.client.user.create(name="late")
    web1.on("groupadd docker; usermod --append --groups docker cs-late")
    web1.person.runs("inv node.prepare")
    assert web1.on("id -Gn cs-late").out == "cs-late codesmith-logins\n"
    assert web1.person.runs("inv node.prepare --plan --json").json[0]["steps"] == []
    assert web1.client.user.delete(name="late").deleted
    web1.on("groupdel docker")
    assert records(web1).startswith("ok"), records(web1)


PLACES = "stat -c '%U %a' /srv/codesmith/home/cs-late /srv/codesmith/workspaces/late"


@pytest.mark.long
def test_prepare_opens_nobody_whom_the_ledger_does_not_know_to_be_closed(web1: Web1) -> None:
    web1.client.workspace.create(name="late")
    with an_hour_passes(web1, [(LEDGER, True)]):
        web1.client.user.disable(name="late")
    web1.on("chage --maxdays 90 cs-late")
    web1.person.runs("inv node.prepare")
    assert web1.on(PLACES).out == "root 0\nroot 0\n"
    assert not web1.client.user.get(name="late").drift
    assert web1.client.user.enable(name="late").state == "active"
    assert web1.on(PLACES).out == "cs-late 700\ncs-late 700\n"
    assert web1.client.workspace.delete(name="late").user_deleted


@pytest.mark.long
def test_prepare_closes_whole_whom_the_ledger_says_to_be_closed(web1: Web1) -> None:
    web1.client.workspace.create(name="late")
    web1.client.user.disable(name="late")
    with an_hour_passes(web1, [(LEDGER, True)]):
        web1.client.user.enable(name="late")
    assert "user late is disabled, but workspace late is not closed (inv user.disable late)" in records(web1)
    web1.on("chage --maxdays 90 cs-late")
    web1.person.runs("inv node.prepare")
    assert web1.on(PLACES).out == "root 0\nroot 0\n"
    assert web1.person.runs("inv node.prepare --plan --json").json[0]["steps"] == []
    assert web1.client.user.enable(name="late").state == "active"
    assert web1.client.workspace.delete(name="late").user_deleted


# What somebody did to what the ledger has forgotten, so that nothing proves any more that it is ours.
DOUBTS = {
    "another comment": ("usermod --comment somebody cs-late", "cs-late in /etc/passwd"),
    "another home": ("usermod --home /srv/elsewhere cs-late", "cs-late in /etc/passwd"),
    "no account, but its home": ("userdel cs-late", "/srv/codesmith/home/cs-late"),
    "no account, but its workspace": (
        "userdel cs-late; rm -r /srv/codesmith/home/cs-late",
        "/srv/codesmith/workspaces/late",
    ),
    "a line in group alone": (
        "sed -i /^cs-late:/d /etc/passwd /etc/shadow /etc/gshadow; rm -r /srv/codesmith/*/*late",
        "cs-late in /etc/group",
    ),
    "a line in shadow alone": (
        "sed -i /^cs-late:/d /etc/passwd /etc/group /etc/gshadow; rm -r /srv/codesmith/*/*late",
        "cs-late in /etc/shadow",
    ),
}


@pytest.mark.parametrize(("harm", "named"), some_of(DOUBTS, "a line in shadow alone"))
def test_what_is_not_proved_to_be_ours_is_named_and_not_called_deleted(web1: Web1, harm: str, named: str) -> None:
    with an_hour_passes(web1, [(LEDGER, False)]):
        web1.client.workspace.create(name="late")
    web1.on(harm)
    there = web1.on(TRACES, check=False).out
    assert "late" in records(web1)
    for call in (web1.client.workspace.delete, web1.client.user.disable):
        refusal = web1.refuses(call, "not_managed", name="late")
        assert named in str(refusal) and refusal.hint
    assert web1.on(TRACES, check=False).out == there
    web1.on("userdel cs-late; groupdel cs-late; sed -i /^cs-late:/d /etc/shadow /etc/gshadow", check=False)
    web1.on("rm -rf /srv/codesmith/*/*late")
    assert web1.client.workspace.delete(name="late").user_deleted


@pytest.mark.long
def test_a_workspace_of_nobody_is_named_and_not_called_deleted(web1: Web1) -> None:
    with an_hour_passes(web1, [(LEDGER, False)]):
        web1.client.workspace.create(name="late")
    web1.on("userdel cs-late; rm -r /srv/codesmith/home/cs-late")
    assert "/srv/codesmith/workspaces/late is on the node" in records(web1)
    refusal = web1.refuses(web1.client.workspace.delete, "not_managed", name="late")
    assert "/srv/codesmith/workspaces/late" in str(refusal)
    web1.on("rm -r /srv/codesmith/workspaces/late")
    assert web1.client.workspace.delete(name="late").user_deleted


@pytest.mark.long
def test_a_uid_of_the_last_hour_is_not_given_again(web1: Web1) -> None:
    web1.client.user.create(name="early")
    with an_hour_passes(web1, [(LEDGER, True), (STORE, True)]):
        given = [web1.client.user.create(name=f"passing{number}").uid for number in range(3)]
        for number in range(3):
            web1.client.user.delete(name=f"passing{number}")
        web1.client.user.delete(name="early")
    assert "the helper's ledger is older than the node" in records(web1)
    # A user that is gone, but in the ledger, is made anew with another uid.
    web1.client.user.delete(name="early")
    for name in ("early", "passing0"):
        assert web1.client.user.create(name=name).uid > max(given)
        assert web1.client.user.delete(name=name).deleted
    assert records(web1).startswith("ok"), records(web1)


def test_a_user_who_got_a_workspace_since_is_not_deleted_with_it(web1: Web1) -> None:
    web1.client.workspace.create(name="late")
    web1.client.user.create(name="heir")
    with an_hour_passes(web1, [(STORE, True)]):
        web1.client.workspace.assign(name="late", user="heir")
    assert "is heir's in the helper's ledger, late's in the agent's store" in records(web1)
    assert not web1.client.workspace.delete(name="late").user_deleted
    assert web1.on("getent passwd cs-heir cs-late").ok
    for name in ("heir", "late"):
        assert web1.client.user.delete(name=name).deleted


@pytest.mark.parametrize(
    "loss", some_of({"ledger": [(LEDGER, True)], "both": [(LEDGER, True), (STORE, True)]}, "ledger")
)
def test_a_workspace_that_was_assigned_since_is_sealed_until_its_user_is_enabled(
    web1: Web1, loss: list[tuple[str, bool]]
) -> None:
    web1.client.workspace.create(name="late")
    web1.client.user.create(name="heir")
    with an_hour_passes(web1, loss):
        web1.client.workspace.assign(name="late", user="heir")
        web1.client.user.disable(name="heir")
    assert "late" in records(web1)
    web1.refuses(web1.client.workspace.delete, "not_found", name="other")
    assert web1.client.workspace.delete(name="late").deleted
    assert not web1.on("ls -d /srv/codesmith/workspaces/late", check=False).ok
    web1.client.user.delete(name="heir")
    clear(web1)
    assert records(web1).startswith("ok"), records(web1)


@pytest.mark.long
def test_with_whom_a_workspace_is_shared_is_compared(web1: Web1) -> None:
    web1.client.workspace.create(name="late")
    web1.client.user.create(name="guest")
    with an_hour_passes(web1, [(STORE, True)]):
        web1.client.workspace.share(name="late", user="guest")
    assert "workspace late is shared with guest only in the helper's ledger" in records(web1)
    web1.client.workspace.share(name="late", user="guest")
    assert records(web1).startswith("ok"), records(web1)
    clear(web1)


PRIVATE = {
    "mode of the store": (f"{STORE}/state.db", "chmod 666", "chmod 600", "store"),
    "owner of the store": (f"{STORE}/state.db", "chown root", "chown codesmith", "store"),
    "mode of the ledger": (f"{LEDGER}/ledger.db", "chmod 666", "chmod 600", "records"),
    "owner of the ledger": (f"{LEDGER}/ledger.db", "chown codesmith", "chown root", "records"),
}


@pytest.mark.parametrize(("path", "harm", "cure", "check"), some_of(PRIVATE, "owner of the ledger"))
def test_a_store_that_others_may_have_written_is_not_believed(
    web1: Web1, path: str, harm: str, cure: str, check: str
) -> None:
    web1.client.user.create(name="safe")
    web1.on(f"{STOP}; {harm} {path}")
    start(web1)
    for call in (web1.client.user.delete, web1.client.user.disable):
        web1.refuses(call, "read_only", name="safe")
    found = {one.name: one for one in web1.client.node.health().checks}
    assert found[check].status == "failing" and f"chmod 600 {path}" in found[check].detail
    web1.on(f"{STOP}; {cure} {path}")
    start(web1)
    assert web1.client.user.delete(name="safe").deleted


HARMS = [
    ("/srv", "chmod 777", "chmod 755"), ("/srv", "chown 1:1", "chown 0:0"), ("/srv", "chmod 700", "chmod 755"),
    ("/srv/codesmith", "chmod 777", "chmod 755"), ("/srv/codesmith", "chown 1:1", "chown 0:0"),
    ("/srv/codesmith/home", "chmod 777", "chmod 711"), ("/srv/codesmith/home", "chown 1:1", "chown 0:0"),
    ("/srv/codesmith/empty", "chmod 777", "chmod 755"), ("/srv/codesmith/empty", "chown 1:1", "chown 0:0"),
    ("/srv/codesmith/workspaces", "chmod 700", "chmod 711"), ("/srv/codesmith/workspaces", "chown 1:1", "chown 0:0"),
    ("/srv/codesmith/.staging", "chmod 755", "chmod 700"), ("/srv/codesmith/.staging", "chown 1:1", "chown 0:0"),
    ("/srv/codesmith/.trash", "chmod 755", "chmod 700"), ("/srv/codesmith/.trash", "chown 1:1", "chown 0:0"),
]  # fmt: skip


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_wrong_owner_or_mode_of_our_directories_is_named_and_nothing_called_deleted(web1: Web1, number: int) -> None:
    for path, harm, cure in HARMS[number::2]:
        web1.client.workspace.create(name="safe")
        web1.on(f"{harm} {path}")
        (found,) = [one for one in web1.client.node.health().checks if one.name == "directories"]
        assert found.status == "failing" and path in found.detail, (path, harm, found)
        try:
            web1.client.workspace.delete(name="safe")
        except AgentRefused as refusal:
            assert refusal.rpc_kind == "not_managed" and refusal.hint, (path, harm, refusal)
        else:
            assert not web1.on("getent passwd cs-safe || ls -d /srv/codesmith/*/*safe", check=False).ok, (path, harm)
        web1.on(f"{cure} {path}")
        clear(web1)
    assert web1.client.node.health().status == "ok"
