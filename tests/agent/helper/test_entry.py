"""A runtime starts only for a workspace that is as the ledger says, under the ledger's lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime.entry import read_entry
from agent.helper.trees import trees
from agent.shared.errors import AgentError, Disabled, NotFound, NotManaged
from agent.shared.names import HOMES, WORKSPACES
from tests.agent.helper.records import add_user, add_workspace


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger with workspace demo of user ada, whose account and directory are there."""
    monkeypatch.setattr(Ledger.__init__, "__defaults__", (str(tmp_path / "ledger.db"),))
    monkeypatch.setattr(accounts, "check_ours", lambda *_: True)
    monkeypatch.setattr(trees, "is_owned_directory", lambda *_: True)
    monkeypatch.setattr(trees, "exists", lambda *_: False)
    made = Ledger()
    for user in ("ada", "bob"):
        add_user(made, user)
    add_workspace(made, "demo", "ada")
    return made


def refusal(ledger: Ledger) -> type[AgentError]:
    with pytest.raises(AgentError) as refused:
        read_entry(ledger, "demo")
    return refused.type


def test_it_has_its_own_login_and_sandbox(ledger: Ledger) -> None:
    ledger.put_sandbox("demo", {"tasks": 5}, "none")
    entry = read_entry(ledger, "demo")
    assert (entry.workspace, entry.login, entry.uid) == ("demo", "cs-demo", 70002)
    assert entry.sandbox is not None
    assert (entry.sandbox.limits, entry.sandbox.network) == ({"tasks": 5}, "none")


def test_only_an_active_workspace_of_an_active_user_is_entered(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.mark_user("ada", "disabled")
    assert refusal(ledger) is Disabled
    ledger.assign("demo", "bob")
    assert read_entry(ledger, "demo").login == "cs-demo"
    for place in (WORKSPACES, HOMES):
        monkeypatch.setattr(trees, "is_owned_directory", lambda parent, *_, other=place: parent != other)
        assert refusal(ledger) is NotManaged
    ledger.mark_workspace("demo", "leaving")
    assert refusal(ledger) is NotFound
    ledger.remove("demo", workspace=True)
    assert refusal(ledger) is NotFound
