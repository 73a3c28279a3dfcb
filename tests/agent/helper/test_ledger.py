"""Which uids the ledger gives out, and who may own a tree."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.helper.ledger import ledger as module
from agent.helper.ledger.ledger import Ledger, WorkspaceRecord
from agent.shared.errors import LimitReached
from agent.shared.uids import EARLIEST, USUAL, Range

DAY_S = 86400
UID_FIRST = EARLIEST.first


def test_uids_of_a_day_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, clock = Ledger(str(tmp_path / "ledger.db")), [1_000_000.0]
    monkeypatch.setattr(module, "UIDS_PER_DAY_MAX", 3)
    monkeypatch.setattr(module.time, "time", lambda: clock[0])

    def add(name: str) -> int:
        return ledger.add_user(name, "now", UID_FIRST, EARLIEST).uid

    assert [add(name) for name in "abc"] == [UID_FIRST, UID_FIRST + 1, UID_FIRST + 2]
    ledger.remove_user("a")
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


def test_everybody_whom_an_unfinished_assignment_has_named_may_own_parts_of_the_tree(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        for name in ("old", "first", "second"):
            ledger.add_user(name, "now", 0, EARLIEST)
        ledger.add_workspace(WorkspaceRecord("demo", "old", "id", "active", "now"))
        for heir in ("first", "second", "first", "second"):
            ledger.begin_assignment("demo", heir)
        assert (ledger.assignment("demo"), ledger.assignees("demo")) == ("second", ["first", "second"])
        # So none of these users is deleted meanwhile.
        assert [ledger.workspaces_of(name) for name in ("old", "first", "second")] == [["demo"]] * 3
        ledger.end_assignment("demo", "second")
        assert (ledger.assignment("demo"), ledger.assignees("demo")) == (None, [])
        assert [ledger.workspaces_of(name) for name in ("old", "first", "second")] == [[], [], ["demo"]]


def test_the_bound_of_a_day_is_in_proportion_to_the_range() -> None:
    assert module.uids_per_day(EARLIEST) == 2000
    assert module.uids_per_day(Range(20000, 20999)) == 66
    # With the limit of a day used up every day, this range lasts for more than ten years.
    assert (USUAL.last - USUAL.first) / module.uids_per_day(USUAL) > 10 * 365


def test_no_uid_comes_back_whatever_ranges_a_node_has_had(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:

        def add(name: str, within: Range) -> int:
            return ledger.add_user(name, "now", within.first, within).uid

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


def test_a_release_from_before_there_were_ranges_finds_its_mark_moved(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(Ledger(str(path))) as ledger:
        ledger.add_user("a", "now", 70000, EARLIEST)
        ledger.add_user("b", "now", 0, USUAL)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT next FROM uids").fetchall() == [(70001,)]
