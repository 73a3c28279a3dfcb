"""A workspace is entered once: checked, checked again under the lock, and held until the job has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime import slots
from agent.helper.runtime.entry import enter
from agent.helper.trees import trees
from agent.shared.errors import AgentError, Disabled, InUse, NotFound, NotManaged
from agent.shared.names import HOMES, WORKSPACES
from tests.agent.helper.records import add_user, add_workspace


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
        add_user(made, user)
    add_workspace(made, "demo", "ada")
    return made


def refusal() -> type[AgentError]:
    with pytest.raises(AgentError) as refused, enter("demo"):
        pass
    return refused.type


def test_it_has_its_own_login_and_sandbox(ledger: Ledger) -> None:
    ledger.put_sandbox("demo", {"tasks": 5}, "none")
    with enter("demo") as entry:
        assert (entry.workspace, entry.login, entry.uid) == ("demo", "cs-demo", 70002)
        assert entry.sandbox is not None
        assert (entry.sandbox.limits, entry.sandbox.network) == ({"tasks": 5}, "none")


def test_only_an_active_workspace_of_an_active_user_is_entered(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.mark_user("ada", "disabled")
    assert refusal() is Disabled
    ledger.assign("demo", "bob")
    with enter("demo") as entry:
        assert entry.login == "cs-demo"
    for place in (WORKSPACES, HOMES):
        monkeypatch.setattr(trees, "is_owned_directory", lambda parent, *_, other=place: parent != other)
        assert refusal() is NotManaged
    ledger.mark_workspace("demo", "leaving")
    assert refusal() is NotFound
    ledger.remove("demo", workspace=True)
    assert refusal() is NotFound


def disable(ledger: Ledger) -> None:
    ledger.mark_user("ada", "disabled")


def make_anew(ledger: Ledger) -> None:
    ledger.remove("demo", workspace=True)
    add_workspace(ledger, "demo", "bob")


@pytest.mark.parametrize(("change", "refused"), [(disable, Disabled), (make_anew, InUse)])
def test_a_change_between_the_checks_and_the_lock_is_seen(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], None], refused: type[AgentError]
) -> None:
    @contextmanager
    def hold_slot() -> Iterator[None]:
        change(ledger)
        yield

    monkeypatch.setattr(slots, "hold_slot", hold_slot)
    assert refusal() is refused
