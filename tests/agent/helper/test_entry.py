"""A workspace is entered once: checked, checked again under the lock, and held until the job has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger, WorkspaceRecord
from agent.helper.runtime import slots
from agent.helper.runtime.entry import enter
from agent.helper.trees import trees
from agent.shared.errors import AgentError, Disabled, InUse, NotFound, NotManaged
from agent.shared.uids import EARLIEST


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger with workspace demo of user ada, whose account and directory are there."""
    monkeypatch.setattr(Ledger.__init__, "__defaults__", (str(tmp_path / "ledger.db"),))
    for name in ("USERS_PATH", "NETWORK_PATH", "SLOTS_PATH"):
        monkeypatch.setattr(slots, name, str(tmp_path / name))
    monkeypatch.setattr(accounts, "check_ours", lambda *_: True)
    monkeypatch.setattr(trees, "is_owned_directory", lambda *_: True)
    monkeypatch.setattr(trees, "exists", lambda *_: False)
    made = Ledger()
    for user in ("ada", "bob"):
        made.add_user(user, "now", 70000, EARLIEST)
        made.mark_user(user, "active")
    made.add_workspace(WorkspaceRecord("demo", "ada", "id", "active", "now"))
    return made


def refusal() -> type[AgentError]:
    with pytest.raises(AgentError) as refused, enter("demo"):
        pass
    return refused.type


def test_it_has_user_and_sandbox(ledger: Ledger) -> None:
    ledger.put_sandbox("demo", {"tasks": 5}, "none")
    with enter("demo") as entry:
        assert (entry.workspace, entry.user, entry.login, entry.uid) == ("demo", "ada", "cs-ada", 70000)
        assert entry.sandbox is not None
        assert (entry.sandbox.limits, entry.sandbox.network) == ({"tasks": 5}, "none")


def test_only_an_active_workspace_of_an_active_user_is_entered(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.disable_user("ada", {})
    assert refusal() is Disabled
    ledger.enable_user("ada")
    monkeypatch.setattr(trees, "is_owned_directory", lambda *_: False)
    assert refusal() is NotManaged
    ledger.begin_assignment("demo", "bob")
    assert refusal() is InUse
    ledger.remove_workspace("demo")
    assert refusal() is NotFound


def disable(ledger: Ledger) -> None:
    ledger.disable_user("ada", {})


def assign(ledger: Ledger) -> None:
    ledger.begin_assignment("demo", "bob")
    ledger.end_assignment("demo", "bob")


@pytest.mark.parametrize(("change", "refused"), [(disable, Disabled), (assign, InUse)])
def test_a_change_between_the_checks_and_the_lock_is_seen(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], None], refused: type[AgentError]
) -> None:
    @contextmanager
    def hold_slot() -> Iterator[None]:
        change(ledger)
        yield

    monkeypatch.setattr(slots, "hold_slot", hold_slot)
    assert refusal() is refused
