"""What the ledger gives out, and what it remembers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import LimitReached
from agent.helper import ledger as module
from agent.helper.ledger import Ledger, WorkspaceRecord
from agent.names import UID_FIRST

DAY_S = 86400


def test_uids_of_a_day_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, clock = Ledger(str(tmp_path / "ledger.db")), [1_000_000.0]
    monkeypatch.setattr(module, "UIDS_PER_DAY", 3)
    monkeypatch.setattr(module.time, "time", lambda: clock[0])

    def add(name: str) -> int:
        return ledger.add_user(name, "now", UID_FIRST).uid

    assert [add(name) for name in "abc"] == [UID_FIRST, UID_FIRST + 1, UID_FIRST + 2]
    ledger.remove_user("a")
    with pytest.raises(LimitReached, match="within a day"):
        add("a")
    assert ledger.next_uid() == UID_FIRST + 3
    clock[0] += DAY_S + 1
    assert add("a") == UID_FIRST + 3
    # A clock that was years ahead for a while closes nobody out when it is right again.
    clock[0] += 1000 * DAY_S
    assert [add(name) for name in "def"] == [UID_FIRST + 4, UID_FIRST + 5, UID_FIRST + 6]
    clock[0] -= 1000 * DAY_S
    assert add("g") == UID_FIRST + 7
    ledger.close()


def test_everybody_whom_an_unfinished_assignment_has_named_may_own_parts_of_the_tree(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        for name in ("old", "first", "second"):
            ledger.add_user(name, "now", 0)
        ledger.add_workspace(WorkspaceRecord("demo", "old", "id", "active", "now"))
        for heir in ("first", "second", "first", "second"):
            ledger.begin_assignment("demo", heir)
        assert (ledger.assignment("demo"), ledger.heirs("demo")) == ("second", ["first", "second"])
        # So none of them is deleted meanwhile.
        assert [ledger.workspaces_of(name) for name in ("old", "first", "second")] == [["demo"]] * 3
        ledger.end_assignment("demo", "second")
        assert (ledger.assignment("demo"), ledger.heirs("demo")) == (None, [])
        assert [ledger.workspaces_of(name) for name in ("old", "first", "second")] == [[], [], ["demo"]]
