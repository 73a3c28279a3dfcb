"""In which order ledger and file system learn of a limit of the disk; and what a refusal leaves."""

from __future__ import annotations

from typing import Any

import pytest

from agent.helper.runtime import change
from agent.helper.runtime.entry import Entry
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared.errors import InUse


class Steps(list[str]):
    """What is done, as the ledger, the file system and what ends processes would see it."""

    is_counted = True
    refusal: Exception | None = None

    def put_sandbox(self, workspace: str, limits: dict[str, float], network: Any) -> None:
        self.append(f"ledger {limits.get('disk_bytes')}")

    def remove_sandbox(self, workspace: str) -> None:
        self.append("ledger forgets")

    def set_limit(self, entry: Entry, limit_bytes: int, *, force: bool) -> None:
        self.append(f"set {limit_bytes}{' by force' if force else ''}")
        if self.refusal:
            raise self.refusal


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    monkeypatch.setattr(change.disk_quota, "is_counted", lambda entry: steps.is_counted)
    monkeypatch.setattr(change.disk_quota, "count", lambda entry: steps.append("count"))
    monkeypatch.setattr(change.disk_quota, "set_limit", steps.set_limit)
    monkeypatch.setattr(change.disk_quota, "remove_limit", lambda workspace, uid: steps.append("remove"))
    monkeypatch.setattr(change.suspension, "end_all", lambda ledger, names: steps.append("end"))
    return steps


def put(steps: Any, before: int | None, wanted: int | None, *, force: bool = False, is_new: bool = False) -> None:
    def sandbox(limit: int | None) -> Sandbox:
        return Sandbox("demo", {} if limit is None else {"disk_bytes": limit}, "full")

    entry = Entry("demo", 70000, None if is_new else sandbox(before))
    change.put(steps, entry, sandbox(wanted), force=force)


def test_the_ledger_names_a_limit_before_the_disk_has_it_and_until_it_has_it_no_more(steps: Steps) -> None:
    put(steps, None, 5, force=True)
    assert steps == ["ledger 5", "set 5 by force"]
    steps.clear()
    put(steps, 5, None)
    assert steps == ["remove", "ledger None"]
    steps.clear()
    put(steps, None, None)
    assert steps == ["ledger None"]


def test_what_runs_ends_before_files_are_counted(steps: Steps) -> None:
    steps.is_counted = False
    put(steps, None, 5)
    assert steps == ["ledger 5", "end", "count", "set 5"]


@pytest.mark.parametrize("refusal", [InUse("too much is used"), PermissionError("immutable")])
def test_a_limit_that_is_refused_leaves_the_ledger_as_it_was(steps: Steps, refusal: Exception) -> None:
    steps.refusal = refusal
    with pytest.raises(type(refusal)):
        put(steps, 9, 5)
    assert steps == ["ledger 5", "set 5", "ledger 9"]
    steps.clear()
    with pytest.raises(type(refusal)):
        put(steps, None, 5, is_new=True)
    assert steps == ["ledger 5", "set 5", "ledger forgets"]
