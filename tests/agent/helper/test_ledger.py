"""Which uids the ledger gives out, and whose a name, a login and a workspace are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from agent.helper.ledger import ledger as module
from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.shared.errors import LimitReached
from agent.shared.uids import EARLIEST, USUAL, Range
from tests.agent.helper.records import add_user, add_workspace

DAY_S = 86400
UID_FIRST = EARLIEST.first


def test_uids_of_a_day_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, clock = Ledger(str(tmp_path / "ledger.db")), [1_000_000.0]
    monkeypatch.setattr(module, "UIDS_PER_DAY_MAX", 3)
    monkeypatch.setattr(module.time, "time", lambda: clock[0])

    def add(name: str) -> int:
        return add_user(ledger, name, UID_FIRST)

    assert [add(name) for name in "abc"] == [UID_FIRST, UID_FIRST + 1, UID_FIRST + 2]
    ledger.remove("a", user=True)
    with pytest.raises(LimitReached, match="within a day"):
        add("a")
    assert ledger.next_uid(EARLIEST) == UID_FIRST + 3
    clock[0] += DAY_S + 1
    assert add("a") == UID_FIRST + 3
    # After a clock was years ahead for a while, users can still be made.
    clock[0] += 1000 * DAY_S
    assert [add(name) for name in "def"] == [UID_FIRST + 4, UID_FIRST + 5, UID_FIRST + 6]
    clock[0] -= 1000 * DAY_S
    assert add("g") == UID_FIRST + 7
    ledger.close()


def test_the_bound_of_a_day_is_in_proportion_to_the_range() -> None:
    assert module.uids_per_day(EARLIEST) == 2000
    assert module.uids_per_day(Range(20000, 20999)) == 66
    # With the limit of a day used up every day, this range lasts for more than ten years.
    assert (USUAL.last - USUAL.first) / module.uids_per_day(USUAL) > 10 * 365


def test_no_uid_comes_back_whatever_ranges_a_node_has_had(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:

        def add(name: str, within: Range) -> int:
            login = ledger.new_login(name, "now", within.first, within)
            ledger.add(login)
            return login.uid

        first = [add(name, EARLIEST) for name in ("a", "b")]
        assert first == [70000, 70001]
        # New users get another range, and the first one again; each range continues where it was.
        assert [add("c", USUAL), add("d", EARLIEST), add("e", USUAL)] == [USUAL.first, 70002, USUAL.first + 1]
        # Ranges that overlap with these.
        assert add("f", Range(65536, 80000)) == 70003
        assert add("g", Range(70001, 90000)) == 70004
        assert add("h", EARLIEST) == 70005
        with pytest.raises(LimitReached, match="70000 to 70005 have been given out"):
            add("i", Range(70000, 70005))


def test_a_login_is_there_while_its_user_or_its_workspace_is(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        uid = add_user(ledger, "demo")
        ledger.add(WorkspaceRecord("demo", "demo", "id", "active", "now"))
        ledger.remove("demo", workspace=True)
        assert ledger.login("demo") == ledger.login_of_uid(uid) is not None
        ledger.add(WorkspaceRecord("demo", "demo", "id", "active", "now"))
        ledger.remove("demo", workspace=True, user=True)
        assert ledger.logins() == ledger.users() == ledger.workspaces() == []
        assert add_user(ledger, "demo") == uid + 1


def test_records_are_added_and_dropped_together(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        login = ledger.new_login("demo", "now", 70000, EARLIEST)
        user, workspace = UserRecord("demo", "pending", "now"), WorkspaceRecord("demo", "demo", "id", "pending", "now")
        ledger.add(login, user, workspace)
        assert (ledger.login("demo"), ledger.user("demo"), ledger.workspace("demo")) == (login, user, workspace)
        ledger.drop_pending("demo")
        assert ledger.logins() == ledger.users() == ledger.workspaces() == []
        assert ledger.next_uid(EARLIEST) == login.uid + 1


def test_a_workspace_is_open_to_its_user_and_to_those_with_whom_it_is_shared(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        for name in ("ada", "bob"):
            add_user(ledger, name)
        add_workspace(ledger, "site", "ada")
        ledger.share("site", "bob")
        ledger.share("site", "bob")
        assert (ledger.shares(), ledger.workspaces_open_to("bob")) == ({"site": ["bob"]}, ["site"])
        assert (ledger.workspaces_of("ada"), ledger.workspaces_of("bob")) == (["site"], [])
        ledger.assign("site", "bob")
        assert (ledger.shares(), ledger.workspaces_of("bob"), ledger.workspaces_open_to("ada")) == ({}, ["site"], [])
        ledger.share("site", "ada")
        ledger.unshare("site", "ada")
        assert ledger.shares() == {}
        ledger.share("site", "ada")
        ledger.remove("ada", user=True)
        assert ledger.shares() == {}
