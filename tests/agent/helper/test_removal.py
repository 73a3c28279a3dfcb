"""What ends with a user: the processes in workspaces that are shared with it, and its sessions."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.helper import logins, lost_records, suspension, workspaces
from agent.helper.ledger.ledger import Ledger, WorkspaceRecord
from agent.helper.runtime import disk_quota
from agent.helper.trees import trash
from tests.agent.helper.records import add_user, add_workspace


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with the pair `bob`, who may enter `team` too; verbs find it, and nothing of it on the node."""
    with contextlib.closing(Ledger(str(tmp_path / "ledger.db"))) as there:
        for name in ("ada", "bob"):
            add_user(there, name)
        add_workspace(there, "team", "ada")
        there.add(WorkspaceRecord("bob", "bob", "id", "active", "now"))
        there.share("team", "bob")
        held = contextlib.contextmanager(lambda **_: (yield there))
        monkeypatch.setattr(workspaces, "exclusive_ledger", held)
        monkeypatch.setattr(lost_records, "restore", lambda ledger, name: ledger.login(name))
        yield there


@pytest.mark.parametrize(("remove_user", "ended"), [(True, ["bob", "team"]), (False, ["bob"])])
def test_with_a_pair_ends_what_runs_in_workspaces_that_are_shared_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, remove_user: bool, ended: list[str]
) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(logins, "check_removable", lambda *_, **__: None)
    monkeypatch.setattr(logins, "check_ours", lambda ledger, names: calls.append(("check", sorted(names))))
    monkeypatch.setattr(suspension, "end_all", lambda ledger, names: calls.append(("end", sorted(names))))
    monkeypatch.setattr(logins, "remove", lambda *_, **__: [])
    monkeypatch.setattr(disk_quota, "forget", lambda *_: None)
    monkeypatch.setattr(trash, "empty", list)
    with socket.socket() as caller:
        assert workspaces.remove_workspace(caller, "bob", remove_user)["user_removed"] is remove_user
    assert calls[-1] == ("end", ended)
    assert not remove_user or ("check", ended) in calls, "before anything is done"
